"""The same scores and the same training on a GPU, in the memory that it has. CI has none."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from asrprune.cli.main import main
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.firstpass.formats.jsonl import write_nbest
from asrprune.lm.device import resolve_device
from asrprune.lm.engines.engine import GPU_TOKEN_BUDGET, EngineOptions
from asrprune.lm.engines.pytorch.engine import TorchEngine
from asrprune.lm.engines.pytorch.memory import node_bytes
from asrprune.lm.engines.pytorch.nodes import CachedModel
from asrprune.lm.engines.pytorch.padded import PaddedScorer
from asrprune.lm.engines.pytorch.prefixes import CachedPrefixes
from asrprune.lm.engines.table import BF16_SLACK, open_engine
from asrprune.lm.model.shapes import BlockShape, LinearShape, ModelShape
from asrprune.lm.protocol import SENTENCE_END
from asrprune.lm.scoring.early import EarlyScorer
from asrprune.lm.scoring.forests import ScoringOptions
from asrprune.lm.scoring.sentences import TransformerScorer
from asrprune.lm.training.loop import Budget, TrainingLoop
from asrprune.lm.training.optimizers import OptimizerConfig
from asrprune.lm.trie import BatchPlan, build_forest, cut
from asrprune.rescore.scores_file import read_scores
from tests.lm.training.test_loss_and_loop import batches
from tests.small_lm import SENTENCES, DrawnTokenizer, drawn_model, save_small_lm

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

POSITIONS, VOCAB = 40, 300
CPU, GPU = EngineOptions(device="cpu"), EngineOptions(device="cuda")
FACTORS = {"ffn.up": LinearShape("low_rank", 8), "attn.q": LinearShape("low_rank", 5)}
SHAPES = {
    "gpt2": ModelShape.uniform(VOCAB, 64, 3, 4, max_positions=POSITIONS),
    "pruned": ModelShape(
        VOCAB, 64, 16, POSITIONS, (BlockShape(3, 40, FACTORS), BlockShape(0, 24, {})), 0.0, 24
    ),
    "llama": ModelShape.uniform(
        VOCAB, 64, 3, 4, 96, POSITIONS, architecture="llama", kv_heads=2, tied=False
    ),
}
SHAPE = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def drawn_lists(count: int = 9, hypotheses: int = 30) -> list[list[str]]:
    """Lists whose hypotheses differ from the first in a few words, and are of many lengths."""
    draw = np.random.default_rng(0)
    lists = []
    for _ in range(count):
        best = draw.integers(3, VOCAB, size=draw.integers(5, POSITIONS - 1))
        rows = np.repeat(best[None], hypotheses, axis=0)
        for row in rows[1:]:
            row[draw.integers(len(row), size=2)] = draw.integers(3, VOCAB, size=2)
        lists.append([" ".join(map(str, row[: draw.integers(1, len(row) + 1)])) for row in rows])
    return lists


def scored(model, name, options, budget=None):
    """[H] of all lists."""
    engine = open_engine(name, model, options)
    scoring = ScoringOptions(budget)
    lm = TransformerScorer(engine, DrawnTokenizer(), POSITIONS, scoring)
    assert (lm.runtime.device == "cpu") == (options is CPU)
    return np.concatenate(lm.score_lists(drawn_lists()))


@SHAPE
def test_scores_are_those_of_a_cpu(shape):
    model = drawn_model(shape)
    expected = scored(model, "torch", CPU)
    for budget in (POSITIONS, 500, None):
        found = scored(copy.deepcopy(model), "torch", GPU, budget)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    padded = PaddedScorer(copy.deepcopy(model), DrawnTokenizer(), GPU).score_lists(drawn_lists())
    np.testing.assert_allclose(np.concatenate(padded), expected, rtol=0, atol=1e-3)


@SHAPE
def test_bfloat16_rounds_and_its_batches_matter_little(shape):
    model = drawn_model(shape)
    expected = scored(model, "torch", CPU)
    whole, parts = (scored(model, "torch-bf16", GPU, budget) for budget in (None, 100))
    assert np.abs(whole - expected).mean() < 0.02 * np.abs(expected).mean()
    assert np.abs(whole - parts).max() < BF16_SLACK
    assert np.abs(whole - expected).max() > 1e-4


@pytest.mark.filterwarnings("default")  # torch's own
@SHAPE
def test_compiled_it_is_the_same(shape):
    model = drawn_model(shape)
    expected = scored(model, "torch", CPU)
    found = scored(copy.deepcopy(model), "torch-compile", GPU)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


@SHAPE
def test_kept_keys_and_values_give_the_same(shape):
    model, lists = drawn_model(shape), drawn_lists(2, 8)
    lm = TransformerScorer(open_engine("torch", model, CPU), DrawnTokenizer(), POSITIONS)
    expected = lm.score_lists(lists)
    nodes = CachedModel(copy.deepcopy(model), torch.float32, GPU)
    early = EarlyScorer(nodes, DrawnTokenizer(), POSITIONS, lm.score_lists)
    nothing = [np.zeros(len(one)) for one in lists]
    for one, values in zip(early.score_lists(lists, nothing, 1.0), expected):
        np.testing.assert_allclose(one.lm[one.complete], values[one.complete], atol=1e-3)
        assert one.complete[values.argmax()]
    prefixes = CachedPrefixes(copy.deepcopy(model), DrawnTokenizer(), engine=GPU)
    for group, (hyps, values) in enumerate(zip(lists, expected)):
        prefix, total = prefixes.root(group), 0.0
        for word in hyps[0].split():
            total += prefixes.score([(prefix, word)])[0]
            prefix = prefixes.child(prefix, word)
        total += prefixes.score([(prefix, SENTENCE_END)])[0]
        assert total == pytest.approx(values[0], abs=1e-3)


WIDE = {
    "gpt2": ModelShape.uniform(5000, 512, 6, 8),
    "one block": ModelShape.uniform(5000, 512, 1, 8),
    "llama": ModelShape.uniform(49152, 576, 6, 9, 1536, architecture="llama", kv_heads=3),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("length", [30, 200])
@pytest.mark.parametrize("shape", WIDE.values(), ids=WIDE)
def test_a_pass_takes_no_more_memory_than_is_counted_with(shape, length, dtype):
    engine = TorchEngine(drawn_model(shape), dtype, GPU)
    draw = np.random.default_rng(0)
    lists = [[draw.integers(3, 5000, size=length).tolist() for _ in range(20)] for _ in range(6)]
    forest = build_forest(lists, 1)
    plan = BatchPlan(forest, 2)
    (batch, _), *_ = (plan.batch(piece) for piece in cut(forest, 20_000))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    engine.log_probs(batch)
    taken = torch.cuda.max_memory_allocated() - before
    counted = node_bytes(engine._model, length + 1) * batch.tokens.size
    assert taken < counted + (1 << 29)
    assert counted < 6 * taken


def test_passes_shrink_with_the_free_memory():
    device = resolve_device("cuda")
    model = drawn_model(ModelShape.uniform(VOCAB, 512, 6, 8, max_positions=POSITIONS))
    expected = scored(copy.deepcopy(model), "torch", GPU)
    engine = TorchEngine(copy.deepcopy(model), torch.float32, GPU)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    assert engine.token_budget(POSITIONS) == GPU_TOKEN_BUDGET
    taken = torch.empty(free - (1 << 30), dtype=torch.uint8, device=device)
    assert POSITIONS <= engine.token_budget(POSITIONS) < GPU_TOKEN_BUDGET // 2
    found = scored(copy.deepcopy(model), "torch", GPU)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    del taken


def test_no_kernel_is_taken_that_plans_for_every_shape():
    resolve_device("auto")
    assert not torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_is_that_of_a_cpu(precision):
    """Of the same batches, from the same weights."""
    model = drawn_model(ModelShape.uniform(13, 64, 2, 4, max_positions=POSITIONS))
    losses = {}
    for device in ("cpu", "cuda"):
        own = copy.deepcopy(model).to(device)
        loop = TrainingLoop(
            own, batches(), OptimizerConfig(), Budget(max_steps=12), precision=precision
        )
        losses[device] = [loop.step().loss for _ in range(12)]
    tolerance = 0.05 if precision == "bf16" else 2e-3
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=tolerance)
    assert losses["cuda"][-1] < losses["cuda"][0]


def test_verbs_compute_there(tmp_path: Path):
    lm = save_small_lm(tmp_path)
    texts = [text for text in SENTENCES if text]
    nbest = tmp_path / "lists.jsonl"
    lists = [NBest(f"u{n}", tuple(Hypothesis(t, 0.0) for t in texts)) for n in range(3)]
    write_nbest(nbest, lists)
    found = {}
    for device in ("cpu", "cuda"):
        out = tmp_path / f"{device}.jsonl"
        call = ["lmscore", "--lm", lm, "--nbest", nbest, "--out", out, "--device", device]
        assert main([*map(str, call), "--engine", "torch"]) == 0
        found[device] = read_scores(out)
    assert "cuda" in str(found["cuda"].header)
    for utt, one in found["cpu"].utterances.items():
        np.testing.assert_allclose(found["cuda"].utterances[utt].scores, one.scores, atol=1e-3)
    bench = ["bench", "--lm", lm, "--nbest", nbest, "--device", "cuda", "--repeats", "2"]
    assert main([*map(str, bench), "--engines", "all"]) == 0
