"""Early termination: the best hypothesis is that of scoring everything, whatever the waves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.fused import engine as fused
from asrprune.lm.engines.fused.engine import FusedEngine
from asrprune.lm.engines.fused.formats import FORMATS
from asrprune.lm.engines.fused.nodes import CachedFused
from asrprune.lm.engines.fused.packed import load_kernel
from asrprune.lm.engines.pytorch.engine import TorchEngine
from asrprune.lm.engines.pytorch.nodes import CachedModel
from asrprune.lm.engines.table import EARLY
from asrprune.lm.model.shapes import BlockShape, LinearShape, ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.open import open_early
from asrprune.lm.protocol import UnscorableError
from asrprune.lm.scoring.early import EarlyOptions, EarlyScorer
from asrprune.lm.scoring.sentences import TransformerScorer
from tests.small_lm import DrawnTokenizer, save_small_lm

POSITIONS = 14
CPU = EngineOptions(threads=1, device="cpu")


def encode_batch(texts):
    return [[int(word) for word in text.split()] for text in texts]


def make_model(shape=None):
    torch.manual_seed(5)
    shape = shape or ModelShape.uniform(13, 16, 2, 2, max_positions=POSITIONS)
    made = TransformerLM(shape).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(5.0)  # far from uniform
    return made


MODEL = make_model()


def full_scorer():
    return TransformerScorer(
        TorchEngine(MODEL, torch.float32, CPU), DrawnTokenizer(encode_batch), POSITIONS
    )


def early(model=None, **options):
    model = CachedModel(MODEL if model is None else model, torch.float32, CPU)
    whole = full_scorer().score_lists
    return EarlyScorer(
        model, DrawnTokenizer(encode_batch), POSITIONS, whole, EarlyOptions(**options)
    )


SENTENCES = st.lists(st.integers(3, 5), max_size=POSITIONS - 1).map(
    lambda ids: " ".join(map(str, ids))
)
OTHERS = st.one_of(st.integers(-6, 0).map(float), st.floats(-30, 0), st.just(-np.inf))
LISTS = st.lists(st.lists(st.tuples(SENTENCES, OTHERS), max_size=12), max_size=5)


def split(lists):
    texts = [[text for text, _ in hyps] for hyps in lists]
    return texts, [np.array([other for _, other in hyps], np.float64) for hyps in lists]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    lists=LISTS,
    weight=st.floats(0.01, 10),
    band=st.integers(1, 8),
    complete=st.integers(1, 4),
    budget=st.integers(1, 80),
    width=st.integers(1, 20),
    cache_nodes=st.integers(1, 200),
)
def test_the_best_is_that_of_full_scoring(
    lists, weight, band, complete, budget, width, cache_nodes
):
    texts, others = split(lists)
    scorer = early(
        band=band,
        complete=complete,
        token_budget=budget,
        row_width=width,
        cache_bytes=cache_nodes * CachedModel(MODEL, torch.float32, CPU).node_bytes,
    )
    parts = scorer.score_lists(texts, others, weight)
    full = full_scorer().score_lists(texts)
    assert len(parts) == len(lists)
    for other, scores, part in zip(others, full, parts):
        np.testing.assert_allclose(part.lm[part.complete], scores[part.complete], atol=1e-4)
        assert (part.lm >= scores - 1e-4).all()  # an upper bound where it is not the score
        if len(other) < 2 or np.isneginf(other).all():
            continue
        total = other + weight * scores
        found = np.where(part.complete, other + weight * part.lm, -np.inf)
        winners = total >= total.max() - 1e-4 * weight
        assert winners[np.argmax(found)]
        assert part.complete[winners].all()  # none of those that tie is left out
        assert (other + weight * part.lm)[~part.complete].max(initial=-np.inf) < total.max()
    assert scorer.stats.computed_nodes <= scorer.stats.nodes


INT8_SHAPES = (
    ModelShape.uniform(13, 16, 2, 2, max_positions=POSITIONS),
    ModelShape(
        13,
        12,
        6,
        POSITIONS,
        (
            BlockShape(3, 17, {"attn.k": LinearShape("low_rank", 3)}),
            BlockShape(0, 8),
            BlockShape(1, 0, {"attn.v": LinearShape("pivoted", 2)}),
        ),
        embedding_rank=5,
    ),
    ModelShape(13, 8, 4, POSITIONS, ()),
)


@pytest.mark.slow
@pytest.mark.skipif(load_kernel() is None, reason="no C++ compiler here")
@settings(max_examples=150, deadline=None)
@given(
    shape=st.sampled_from(INT8_SHAPES),
    lists=LISTS,
    weight=st.floats(0.01, 10),
    band=st.integers(1, 8),
    complete=st.integers(1, 4),
    budget=st.integers(1, 80),
    passes=st.integers(1, 3),
)
@pytest.mark.parametrize("form", FORMATS)
def test_the_kernel_scores_in_waves_what_it_scores_at_once(
    form, shape, lists, weight, band, complete, budget, passes
):
    texts, others = split(lists)
    model = make_model(shape)
    engine = FusedEngine(load_kernel(), form, model, passes)
    full = TransformerScorer(engine, DrawnTokenizer(encode_batch), POSITIONS)
    kept = CachedFused(engine)
    options = EarlyOptions(band=band, complete=complete, token_budget=budget)
    scorer = EarlyScorer(kept, DrawnTokenizer(encode_batch), POSITIONS, full.score_lists, options)
    parts = scorer.score_lists(texts, others, weight)
    for other, scores, part in zip(others, full.score_lists(texts), parts):
        np.testing.assert_array_equal(part.lm[part.complete], scores[part.complete])
        assert (part.lm >= scores - 1e-6).all()
        if len(other) > 1 and not np.isneginf(other).all():
            total = other + weight * scores
            found = np.where(part.complete, other + weight * part.lm, -np.inf)
            assert np.argmax(found) == np.argmax(total)
    assert scorer.stats.computed_nodes <= scorer.stats.nodes


def test_int8_stops_early_with_its_kernel_only(monkeypatch, tmp_path):
    lm = save_small_lm(tmp_path)
    monkeypatch.setattr(fused, "load_kernel", lambda: None)
    with pytest.raises(ValueError, match="with its kernel only"):
        open_early(lm, "int8", CPU)


@pytest.mark.parametrize("engine", EARLY)
def test_every_engine_that_stops_early_opens(engine, tmp_path):
    if engine in FORMATS and load_kernel() is None:
        pytest.skip("no C++ compiler here")
    options = EarlyOptions(complete=1, slack=0.25)
    scorer = open_early(save_small_lm(tmp_path), engine, CPU, options)
    (part,) = scorer.score_lists([["the cat sat", "a hat"]], [np.array([0.0, -900.0])], 1.0)
    assert part.complete.tolist() == [True, False]


@pytest.mark.parametrize("count", [2, 3, 7])
def test_equal_totals_are_all_scored_so_that_order_decides(count):
    lists = [["3 4 5"] * count, [""] * count]
    parts = early(complete=1, band=1).score_lists(lists, [np.zeros(count)] * 2, 1.0)
    for part in parts:
        assert part.complete.all()
        assert np.argmax(part.lm) == 0
        assert len(set(part.lm.tolist())) == 1


def test_what_cannot_win_is_not_computed():
    texts = [["3 4 5 3", "5 4 3 3 4 5 3 4", "4 4 4"]]
    scorer = early(complete=1, band=2)
    (part,) = scorer.score_lists(texts, [np.array([0.0, -1000.0, -np.inf])], 1.0)
    assert part.complete.tolist() == [True, False, False]
    assert scorer.stats.computed_nodes == 5  # <s> and the four tokens of the best
    assert scorer.stats.nodes == 5 + 8 + 3
    assert scorer.stats.saved == pytest.approx(11 / 16)


def test_a_single_hypothesis_and_the_hopeless_cost_nothing():
    scorer = early()
    parts = scorer.score_lists(
        [["3 4"], [], ["3", "4"]], [np.zeros(1), np.zeros(0), np.full(2, -np.inf)], 1.0
    )
    assert [part.complete.tolist() for part in parts] == [[False], [], [False, False]]
    assert scorer.stats.computed_nodes == 0
    assert scorer.score_lists([], [], 1.0) == []


def test_guesses_change_the_work_only():
    texts = [["3 4 5 3", "5 4 3 3 4 5 3 4", "4 4 4 3 3"]]
    others = [np.array([-1.0, -2.0, -1.5])]
    total = others[0] + full_scorer().score_lists(texts)[0]
    for guess in np.eye(3):
        (part,) = early(complete=1).score_lists(texts, others, 1.0, [guess])
        assert np.argmax(np.where(part.complete, others[0] + part.lm, -np.inf)) == total.argmax()


def test_a_list_beyond_the_cache_is_scored_in_full():
    texts = [["3 4 5 3", "5 4"], ["3", "4"]]
    scorer = early(complete=1, cache_bytes=4 * CachedModel(MODEL, torch.float32, CPU).node_bytes)
    parts = scorer.score_lists(texts, [np.array([0.0, -1000.0])] * 2, 1.0)
    assert parts[0].complete.all()
    assert scorer.stats.whole_lists == 1
    assert not parts[1].complete.all()


def test_what_rounding_may_lift_to_the_best_total_is_scored_to_its_end():
    texts, guesses = [["3 4 5", "4 5"]], [np.array([1.0, 0.0])]

    def scored(other):
        others = [np.array([0.0, other])]
        return early(complete=1).score_lists(texts, others, 2.0, guesses)[0]

    best, bound = scored(-1000.0).lm  # of the second what is known when the first is complete
    for below, complete in ((0.0005, True), (0.002, False)):  # the slack is 0.001
        part = scored(2.0 * (best - bound - below))
        assert part.complete.tolist() == [True, complete]


def test_the_prompt_of_every_list_counts_in_the_cache():
    tokenizer, size = DrawnTokenizer(encode_batch, prompt=(7, 8, 9)), 9  # nodes of a list
    whole = TransformerScorer(TorchEngine(MODEL, torch.float32, CPU), tokenizer, POSITIONS)
    model = CachedModel(MODEL, torch.float32, CPU)
    options = EarlyOptions(complete=1, cache_bytes=(2 * size + 1) * model.node_bytes)
    scorer = EarlyScorer(model, tokenizer, POSITIONS, whole.score_lists, options)
    texts = [["3 4 5", "5 4"], ["3 5 5", "4 4"], [], ["6 6 6", "3 3"], ["3 4 3", "6 5"]]
    others = [np.array([0.0, -1.0][: len(hyps)]) for hyps in texts]
    parts = scorer.score_lists(texts, others, 1.0)
    assert scorer.stats.whole_lists == 0
    assert scorer.stats.nodes == 4 * size
    for part, other, full in zip(parts, others, whole.score_lists(texts)):
        best = np.where(part.complete, other + part.lm, -np.inf)
        assert not len(full) or np.argmax(best) == np.argmax(other + full)


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_no_bound_without_a_positive_weight(weight):
    with pytest.raises(ValueError, match="early termination needs one > 0"):
        early().score_lists([["3"]], [np.zeros(1)], weight)


def test_refuses_what_has_no_score():
    with pytest.raises(ValueError, match="NaN or"):
        early().score_lists([["3"]], [np.array([np.nan])], 1.0)
    longest = " ".join(["3"] * POSITIONS)
    with pytest.raises(UnscorableError, match="the model takes at most 13") as info:
        early().score_lists([["3"], ["3", longest]], [np.zeros(1), np.zeros(2)], 1.0)
    assert info.value.index == (1, 1)
    broken = make_model()
    with torch.no_grad():
        broken.positions[2] = torch.nan
    with pytest.raises(UnscorableError, match="has the score nan"):
        early(broken).score_lists([["3", "3 4 5 3"]], [np.zeros(2)], 1.0)


def test_models_with_blocks_without_heads():
    from asrprune.lm.model.shapes import BlockShape

    torch.manual_seed(1)
    shape = ModelShape(
        13, 16, 8, POSITIONS, (BlockShape(0, 16), BlockShape(2, 0), BlockShape(1, 8))
    )
    model = TransformerLM(shape).eval()
    texts = [["3 4 5", "3 5 5 5", "4", ""]]
    engine = TorchEngine(model, torch.float32, CPU)
    full = TransformerScorer(engine, DrawnTokenizer(encode_batch), POSITIONS).score_lists(texts)[0]
    (part,) = early(model, complete=4).score_lists(texts, [np.zeros(4)], 1.0)
    np.testing.assert_allclose(part.lm, full, atol=1e-4)


def test_options_are_checked():
    with pytest.raises(ValueError, match="band is 0"):
        EarlyOptions(band=0)
    with pytest.raises(ValueError, match="slack is -1"):
        EarlyOptions(slack=-1.0)
