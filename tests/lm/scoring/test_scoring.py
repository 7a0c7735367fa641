"""Scores of the trie engine: equal to scoring one by one, whatever the batches."""

from __future__ import annotations

import importlib.util
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrprune.lm import trie
from asrprune.lm.device import cpu_threads, resolve_device
from asrprune.lm.engines.engine import TOKEN_BUDGET, EngineOptions, cpu_token_budget
from asrprune.lm.engines.pytorch.engine import TorchEngine
from asrprune.lm.engines.pytorch.padded import PaddedScorer
from asrprune.lm.engines.table import ENGINES, open_engine
from asrprune.lm.model.logprob import log_sum_exp, log_sum_exp_of_rows, pair_log_probs
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.protocol import ScoringStats, UnscorableError
from asrprune.lm.scoring.forests import ScoringOptions
from asrprune.lm.scoring.sentences import TransformerScorer
from tests.small_lm import DrawnTokenizer

POSITIONS = 16
CPU = EngineOptions(threads=1, device="cpu")
QUICK_ENGINES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            any(importlib.util.find_spec(one) is None for one in row.packages),
            reason=f"{' and '.join(row.packages)} not installed",
        ),
    )
    for name, row in ENGINES.items()
    if name != "torch-compile"  # has a test file of its own
]


def encode_batch(texts):
    return [[int(word) for word in text.split()] for text in texts]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    made = TransformerLM(ModelShape.uniform(13, 16, 2, 2, max_positions=POSITIONS)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(5.0)  # far from uniform
    return made


def scorer(model, budget=2048, over_long="error", dtype=torch.float32):
    engine = TorchEngine(model, dtype, CPU)
    options = ScoringOptions(budget, over_long)
    return TransformerScorer(engine, DrawnTokenizer(encode_batch), POSITIONS, options=options)


def one_by_one(model, text):
    ids = encode_batch([text])[0]
    with torch.no_grad():
        hidden, _ = model(torch.tensor([[1, *ids]]))
        log_probs = model.logits(hidden)[0].double().log_softmax(-1)
    return sum(float(log_probs[i, target]) for i, target in enumerate([*ids, 2]))


SENTENCES = st.lists(st.integers(3, 6), max_size=POSITIONS - 1).map(
    lambda ids: " ".join(map(str, ids))
)
LISTS = st.lists(st.lists(SENTENCES, max_size=8), max_size=4)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(lists=LISTS, budget=st.integers(POSITIONS, 200), queries=st.sampled_from([1, 5, 64]))
def test_equals_scoring_one_by_one(model, lists, budget, queries):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trie, "QUERIES", queries)
        found = scorer(model, budget).score_lists(lists)
    assert [len(scores) for scores in found] == [len(texts) for texts in lists]
    for texts, scores in zip(lists, found):
        assert scores.dtype == np.float64
        expected = [one_by_one(model, text) for text in texts]
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)


class SeveralAtOnce:
    """The reference, as an engine that wants several passes at once; counts what is in flight."""

    device, note = "cpu", ""

    def __init__(self, model, passes):
        self.passes = passes
        self._engine = TorchEngine(model, torch.float32, CPU)
        self._lock = threading.Lock()
        self._now = self.most = self.calls = 0

    def token_budget(self, deepest):
        return cpu_token_budget(self.passes)

    def log_probs(self, batch):
        nodes = int(batch.nodes.max()) + 1
        with self._lock:
            self._now += nodes
            self.calls += 1
            self.most = max(self.most, self._now)
        found = self._engine.log_probs(batch)
        with self._lock:
            self._now -= nodes
        return found


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(lists=LISTS, budget=st.integers(POSITIONS, 200), passes=st.integers(1, 5))
def test_passes_at_once_share_the_budget_and_change_nothing(model, lists, budget, passes):
    engine = SeveralAtOnce(model, passes)
    lm = TransformerScorer(
        engine, DrawnTokenizer(encode_batch), POSITIONS, options=ScoringOptions(budget)
    )
    found = lm.score_lists(lists)
    assert engine.most <= budget
    for one, other in zip(found, scorer(model, budget).score_lists(lists)):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


def test_all_passes_have_work(model):
    random = np.random.default_rng(0)
    texts = [" ".join(map(str, random.integers(3, 9, 8))) for _ in range(40)]
    for passes in (2, 3):
        engine = SeveralAtOnce(model, passes)
        TransformerScorer(engine, DrawnTokenizer(encode_batch), POSITIONS).score_lists([texts])
        assert engine.calls % passes == 0


def test_many_threads_have_room_by_default(model):
    random = np.random.default_rng(0)
    texts = [" ".join(map(str, random.integers(3, 12, 12))) for _ in range(500)]
    engine = SeveralAtOnce(model, 8)
    lm = TransformerScorer(engine, DrawnTokenizer(encode_batch), POSITIONS)
    lm.score_lists([texts])
    assert lm.stats.unique_tokens > 2 * TOKEN_BUDGET
    assert 8 <= engine.calls <= 9


def test_an_error_in_one_of_several_passes_is_raised(model):
    class Failing(SeveralAtOnce):
        def log_probs(self, batch):
            raise MemoryError("no memory for a pass")

    lm = TransformerScorer(Failing(model, 3), DrawnTokenizer(encode_batch), POSITIONS)
    with pytest.raises(MemoryError, match="no memory for a pass"):
        lm.score_lists([["3 4", "5"]])


def test_batches_and_order_do_not_matter(model):
    random = np.random.default_rng(0)
    lists = [
        [" ".join(map(str, random.integers(3, 5, random.integers(0, 12)))) for _ in range(40)]
        for _ in range(12)
    ]
    whole = scorer(model).score_lists(lists)
    tight = scorer(model, budget=24).score_lists(lists)
    backwards = scorer(model).score_lists([texts[::-1] for texts in lists[::-1]])
    for one, other, mirrored, alone in zip(
        whole, tight, backwards[::-1], (scorer(model).score_lists([texts]) for texts in lists)
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)
        np.testing.assert_allclose(one, mirrored[::-1], rtol=0, atol=1e-4)
        np.testing.assert_allclose(one, alone[0], rtol=0, atol=1e-4)


def test_the_padded_baseline_agrees(model):
    lists = [["3 4 5", "3 4", ""], [], ["6"]]
    trie = scorer(model).score_lists(lists)
    padded_scorer = PaddedScorer(model, DrawnTokenizer(encode_batch), CPU, token_budget=8)
    padded = padded_scorer.score_lists(lists)
    for one, other in zip(trie, padded):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)
    assert padded_scorer.score_lists([]) == []
    assert padded_scorer.stats.tokens == 4 + 3 + 1 + 2


def test_counts_tokens_before_and_after_merging(model):
    lm = scorer(model)
    lm.score_lists([["3 4", "3 5", "3"]])
    assert (lm.stats.sentences, lm.stats.tokens) == (3, 3 + 3 + 2)
    assert lm.stats.unique_tokens == 3 + 3  # 3, 3 4, 3 5 and three ends
    assert lm.stats.wall_s > 0
    assert ScoringStats(1, 2, 3, 4, 5, 6.0) + ScoringStats() == ScoringStats(1, 2, 3, 4, 5, 6.0)


def test_an_over_long_hypothesis_is_an_error_or_never_wins(model):
    longest = " ".join(["3"] * (POSITIONS - 1))
    assert np.isfinite(scorer(model).score_lists([[longest]])[0][0])
    lists = [["3"], ["4", longest + " 3", ""]]
    with pytest.raises(UnscorableError, match="has 16 tokens; the model takes at most 15") as info:
        scorer(model).score_lists(lists)
    assert info.value.index == (1, 1)
    lm = scorer(model, over_long="minus-inf")
    scores = lm.score_lists(lists)
    assert scores[1][1] == -np.inf
    assert np.isfinite(scores[1][[0, 2]]).all()
    assert lm.stats.over_long == 1


def by_windows(model, text):
    """What windows of 15 tokens with 7 of context say, each window scored alone."""
    ids = encode_batch([text])[0]
    total, start, scored = 0.0, 0, 0
    while True:
        stop = min(len(ids), start + POSITIONS - 1)
        piece = ids[start:stop]
        with torch.no_grad():
            hidden, _ = model(torch.tensor([[1, *piece]]))
            log_probs = model.logits(hidden)[0].double().log_softmax(-1)
        targets = [*piece, 2] if stop == len(ids) else piece
        total += sum(float(log_probs[i, t]) for i, t in enumerate(targets) if start + i >= scored)
        if stop == len(ids):
            return total
        start, scored = stop - (POSITIONS - 1) // 2, stop


@pytest.mark.parametrize("length", [15, 16, 22, 23, 24, 60])
def test_windows_score_an_over_long_hypothesis(model, length):
    generator = np.random.default_rng(length)
    long, other = (" ".join(map(str, generator.integers(3, 7, length))) for _ in range(2))
    lists = [["3 4", long, ""], [], [other, long[: 2 * length - 3], long]]
    expected = [[by_windows(model, text) for text in texts] for texts in lists]
    assert expected[0][0] == pytest.approx(one_by_one(model, "3 4"), abs=1e-9)
    lm = scorer(model, over_long="window")
    padded = PaddedScorer(model, DrawnTokenizer(encode_batch), CPU, over_long="window")
    for scores in (lm.score_lists(lists), padded.score_lists(lists)):
        for here, wanted in zip(scores, expected):
            assert here.tolist() == pytest.approx(wanted, abs=1e-4)
    n_long = sum(len(text.split()) > POSITIONS - 1 for texts in lists for text in texts)
    assert lm.stats.over_long == padded.stats.over_long == n_long


@pytest.mark.parametrize("name", QUICK_ENGINES)
def test_no_engine_scores_an_over_long_hypothesis(model, name):

    engine = open_engine(name, model, CPU)
    longest = " ".join(["3"] * (POSITIONS - 1))
    lists = [["3", longest + " 3", longest], [longest + " 4"]]
    lm = TransformerScorer(engine, DrawnTokenizer(encode_batch), POSITIONS)
    with pytest.raises(UnscorableError, match="has 16 tokens; the model takes at most 15") as info:
        lm.score_lists(lists)
    assert info.value.index == (0, 1)
    options = ScoringOptions(over_long="minus-inf")
    lm = TransformerScorer(engine, DrawnTokenizer(encode_batch), POSITIONS, options=options)
    first, second = lm.score_lists(lists)
    assert first[1] == second[0] == -np.inf
    assert np.isfinite(first[[0, 2]]).all()
    assert lm.stats.over_long == 2


def test_the_padded_baseline_refuses_an_over_long_hypothesis(model):
    longest = " ".join(["3"] * POSITIONS)
    with pytest.raises(UnscorableError, match="has 16 tokens; the model takes at most 15") as info:
        PaddedScorer(model, DrawnTokenizer(encode_batch), CPU).score_lists(
            [["3"], [], ["4", longest]]
        )
    assert info.value.index == (2, 1)


def test_a_score_that_is_no_number_stops(model):
    class Broken:
        device = "cpu"
        passes = 1

        def token_budget(self, deepest):
            return cpu_token_budget(1)

        def log_probs(self, batch):
            return np.full(len(batch.targets), np.nan)

    lm = TransformerScorer(Broken(), DrawnTokenizer(encode_batch), POSITIONS)
    with pytest.raises(UnscorableError, match="'4' has the score nan"):
        lm.score_lists([[], ["4"]])


def test_a_budget_below_the_longest_hypothesis_is_refused(model):
    with pytest.raises(ValueError, match="token budget is 3; the longest hypothesis needs 4"):
        scorer(model, budget=3).score_lists([["3 4 5"]])


@pytest.mark.parametrize("name", QUICK_ENGINES)
def test_every_engine_scores(model, name):
    from asrprune.lm.model.checkpoint import Checkpoint

    checkpoint = Checkpoint(model, None, "")
    engine = open_engine(name, checkpoint.model, CPU)
    assert engine.device == "cpu"
    lm = TransformerScorer(engine, DrawnTokenizer(encode_batch), POSITIONS)
    lists = [["3 4 5", "3 4", ""]]
    tolerance = 1e-4 if name == "torch" else 0.5
    expected = [one_by_one(model, text) for text in lists[0]]
    np.testing.assert_allclose(lm.score_lists(lists)[0], expected, rtol=0.05, atol=tolerance)
    assert next(model.parameters()).dtype == torch.float32  # the caller's model is untouched


@pytest.mark.parametrize("chunk", [1, 3, 13, 100])
def test_log_probs_do_not_depend_on_the_chunk(chunk):
    torch.manual_seed(1)
    features, weight = torch.randn(7, 5) * 10, torch.randn(13, 5) * 10
    expected = (features.double() @ weight.double().T).log_softmax(-1)
    sources, targets = torch.tensor([0, 0, 3, 6]), torch.tensor([1, 12, 0, 5])
    found = pair_log_probs(features, weight, sources, targets, chunk)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected[sources, targets], rtol=0, atol=1e-4)
    none = torch.zeros(0, dtype=torch.int64)
    assert pair_log_probs(features, weight, none, none, chunk).shape == (0,)
    assert log_sum_exp(features[:0], weight, chunk).shape == (0,)


@pytest.mark.parametrize("logits", [1, 30, 1000])
def test_rows_at_a_time_sum_up_the_same(logits):
    torch.manual_seed(1)
    features, weight = torch.randn(7, 5) * 10, torch.randn(13, 5) * 10
    expected = (features.double() @ weight.double().T).logsumexp(-1).float()
    found = log_sum_exp_of_rows(features, weight, logits)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert log_sum_exp_of_rows(features[:0], weight, logits).shape == (0,)


def test_devices_and_threads_are_checked():
    assert resolve_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        resolve_device("gpu")
    with pytest.raises(ValueError, match="is not there"):
        resolve_device("cuda:99")
    with pytest.raises(ValueError, match="threads is 0"):
        EngineOptions(threads=0)
    before = torch.get_num_threads()
    with cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    for bad in ({"token_budget": 0}, {"over_long": "skip"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            ScoringOptions(**bad)
