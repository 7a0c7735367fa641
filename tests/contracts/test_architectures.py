"""What every architecture must keep under every criterion, method, schedule and engine."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.padded import PaddedScorer
from asrprune.lm.engines.pytorch.prefixes import CachedPrefixes
from asrprune.lm.engines.table import EARLY, ENGINES, open_engine
from asrprune.lm.model.architecture import ARCHITECTURES
from asrprune.lm.model.checkpoint import load_checkpoint, save_checkpoint
from asrprune.lm.model.matrices import DenseLinear
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.protocol import SENTENCE_END
from asrprune.lm.scoring.early import EarlyScorer
from asrprune.lm.scoring.sentences import TransformerScorer
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.methods import METHODS, Options
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.schedules import SCHEDULES
from asrprune.prune.run.scorer import PruningData
from asrprune.prune.run.steps import prune_in_memory
from asrprune.prune.surgery.residual import Cut, fold_norms, read_directions, rewrite
from asrprune.prune.surgery.units import count_units, keep_units, unit_cost
from asrprune.text.corpus import TokenStream
from tests.quick import grid
from tests.small_lm import DrawnTokenizer

V, D, HEADS, FFN, LAYERS, POSITIONS = 25, 16, 4, 16, 2, 12
SIZES = (V, D, LAYERS, HEADS, FFN, POSITIONS)
SHAPES = {
    "gpt2": ModelShape.uniform(*SIZES),
    "llama": ModelShape.uniform(*SIZES, architecture="llama", kv_heads=2, head_dim=8, tied=False),
    "qwen2": ModelShape.uniform(*SIZES, architecture="llama", details={"qkv_bias": True}),
}
FREE = Options(multiple_of=1, min_heads=0, min_width=0, min_rank=0, min_share=0.0)
CPU = EngineOptions(threads=1, device="cpu")
LISTS = [["3 4 5", "3 4", "", "3 4 5 6 7", "8 9 10 11"], ["5", "5 5 5 5 5 5 5"]]
TOKENS = torch.randint(3, V, (3, 9), generator=torch.Generator().manual_seed(5))


def drawn(name: str, seed: int = 0) -> TransformerLM:
    torch.manual_seed(seed)
    model = TransformerLM(SHAPES[name]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def data() -> PruningData:
    random = np.random.default_rng(3)
    sentences = [random.integers(3, V, random.integers(1, 9)).tolist() for _ in range(40)]
    return PruningData(TokenStream.from_sentences(sentences))


def logits(model: TransformerLM) -> Tensor:
    with torch.no_grad():
        return model.logits(model(TOKENS)[0])


def combinations() -> Iterator[tuple[str, str, str]]:
    """Those of one model a size: elastic is in tests/prune/run/test_elastic.py."""
    for criterion in CRITERIA:
        for method, row in METHODS.items():
            for schedule in SCHEDULES:
                if schedule != "elastic" and not (row.fresh and schedule != "one-shot"):
                    yield criterion, method, schedule


def largest_unit(model: TransformerLM, method: str) -> int:
    """Weights that leave at a time at most: the size may be missed by half of it."""
    costs = []
    for block in model.layers():
        for coupling in model.anatomy.couplings:
            own, shared = unit_cost(block, coupling)
            sublayer = own * count_units(block, coupling) + shared * block.attn.kv_heads
            costs.append(sublayer if method == "depth" else own * max(block.attn.groups or (1,)))
            costs[-1] += shared if method != "depth" else 0
    matrices = [matrix for _, matrix in model.linears()]
    if method == "width":
        return sum(matrix.weights for matrix in matrices) // model.width + 1
    if method in ("structured", "width+structured", "depth", "scratch"):
        return max(costs)
    return max(costs + [matrix.in_features + matrix.out_features for matrix in matrices])


def test_the_shapes_are_of_all_architectures() -> None:
    assert {shape.architecture for shape in SHAPES.values()} == set(ARCHITECTURES)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("criterion", "method", "schedule"), tuple(combinations()))
def test_every_combination(
    name: str, criterion: str, method: str, schedule: str, tmp_path: Path
) -> None:
    check_combination(name, criterion, method, schedule, tmp_path)


@pytest.mark.parametrize(("name", "method"), grid(SHAPES, METHODS, centre=("llama", "structured")))
def test_every_method(name: str, method: str, tmp_path: Path) -> None:
    check_combination(name, "kfac", method, "one-shot", tmp_path)


def check_combination(
    name: str, criterion: str, method: str, schedule: str, tmp_path: Path
) -> None:
    """Sparsity 0 bit for bit, counts, and what is saved is what is loaded and scored."""
    dense = drawn(name)
    before = logits(dense)
    sizes = (0.0, 0.25, 0.5) if not METHODS[method].fresh else (0.25, 0.5)
    plan = Plan(criterion, method, schedule, sizes, 3, 0, statistics_tokens=60, options=FREE)
    total = sum(matrix.weights for _, matrix in dense.linears())
    made = {one.asked: one for one in prune_in_memory(dense, data(), plan)}
    assert list(made) == list(sizes)
    assert torch.equal(logits(dense), before), "the parent was changed"
    if 0.0 in made:
        assert torch.equal(logits(made[0.0].model), before)
    for asked, one in made.items():
        kept = [
            int(matrix.weight.count_nonzero()) if isinstance(matrix, DenseLinear) else 0
            for _, matrix in one.model.linears()
        ]
        stored = sum(matrix.weights for _, matrix in one.model.linears())
        if METHODS[method].masks:
            assert stored == total
            exact = total - round(asked * total)
            height = {"block-4x1": 4, "block-16x1": 16, "2:4": 2, "4:8": 4}.get(method, 1)
            assert abs(sum(kept) - exact) <= height / 2
        else:
            assert one.measured == pytest.approx(1 - stored / total, abs=1e-9)
            assert abs(one.measured - asked) * total <= largest_unit(dense, method) * 0.5 + 1
    check_saved(made[0.5].model, tmp_path)


def check_saved(model: TransformerLM, tmp_path: Path) -> None:
    """The model loads as it was saved, and scores tries as one by one."""
    (tmp_path / "pieces").write_bytes(b"pieces")
    loaded = load_checkpoint(save_checkpoint(tmp_path / "lm", model, tmp_path / "pieces", {})).model
    assert loaded.shape == model.shape
    assert torch.equal(logits(loaded), logits(model))
    assert torch.isfinite(logits(model)).all()
    tries = TransformerScorer(open_engine("torch", loaded, CPU), DrawnTokenizer(), POSITIONS)
    alone = PaddedScorer(loaded, DrawnTokenizer(), CPU, token_budget=1)
    for one, other in zip(tries.score_lists(LISTS), alone.score_lists(LISTS)):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_compacted_computes_what_zeros_compute(name: str, seed: int) -> None:
    """Units leave whole: the same as zeros where the reader multiplies them."""
    random = torch.Generator().manual_seed(seed)
    zeroed = drawn(name, seed)
    compact = copy.deepcopy(zeroed)
    for block, other in zip(zeroed.layers(), compact.layers()):
        for coupling in block.anatomy.couplings:
            units = count_units(block, coupling)
            kept = (
                torch.randperm(units, generator=random)[: int(seed > 0) * units // 2].sort().values
            )
            gone = torch.ones(units, dtype=torch.bool)
            gone[kept] = False
            size = block.attn.head_dim if coupling.heads else 1
            reader = block.linear(coupling.reader)
            with torch.no_grad():
                reader.weight[:, gone.repeat_interleave(size)] = 0.0
            keep_units(other, coupling, kept)
            assert count_units(other, coupling) == len(kept)
    torch.testing.assert_close(logits(compact), logits(zeroed), rtol=1e-4, atol=1e-5)
    assert sum(m.weights for _, m in compact.linears()) < sum(
        m.weights for _, m in zeroed.linears()
    )


@pytest.mark.parametrize("architecture", SHAPES)
def test_a_turned_stream_computes_the_same(architecture: str) -> None:
    """In any basis of what the norms let through; a tied last norm must have equal weights."""
    model = drawn(architecture)
    with torch.no_grad():
        if model.embedding.tied:
            model.norm.weight.fill_(1.7)
        for name, shift in model.norm.named_parameters():
            if name == "bias":
                shift.normal_()
    before = logits(model)
    fold_norms(model)
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)
    apart = read_directions(model)
    turn = torch.linalg.qr(
        torch.randn(
            apart.shape[1],
            apart.shape[1],
            dtype=torch.float64,
            generator=torch.Generator().manual_seed(2),
        )
    )[0]
    rewrite(model, Cut(apart @ turn @ apart.T), mean_free=False)
    torch.testing.assert_close(logits(model), before, rtol=1e-3, atol=1e-3)


def uneven(name: str) -> TransformerLM:
    """A pruned model: every block and every stored form is another."""
    plan = Plan(
        "kfac",
        "low-rank",
        "one-shot",
        (0.4,),
        fine_tune_tokens=0,
        statistics_tokens=60,
        options=FREE,
    )
    (low,) = prune_in_memory(drawn(name), data(), plan)
    model = low.model
    block, (attention, ffn) = model.layers()[0], model.anatomy.couplings
    keep_units(block, attention, torch.tensor([0, 2, 3]))  # uneven groups of query heads
    keep_units(block, ffn, torch.arange(0, FFN, 2))
    return model


TOLERANCES = {"torch-bf16": 0.6, "bf16": 0.1, "onnx-int8": 4.0, "int8": 1.0}
TOLERANCES |= {"openvino-bf16": 0.6, "openvino-int8": 4.0}


@pytest.mark.parametrize(
    ("name", "engine"),
    grid(SHAPES, [one for one in ENGINES if one != "torch-compile"], centre=("llama", "onnx")),
)
def test_engines_score_as_the_reference(name: str, engine: str) -> None:
    if engine.startswith("onnx") and importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("onnxruntime is not installed")
    if engine.startswith("openvino"):
        pytest.importorskip("onnxruntime")
        pytest.importorskip("openvino")
    for model in (drawn(name), uneven(name)):
        architectures = ENGINES[engine].architectures
        if architectures is not None and model.shape.architecture not in architectures:
            with pytest.raises(ValueError, match=f"engine {engine} computes gpt2, but the LM is"):
                open_engine(engine, model, CPU)
            continue
        exact = TransformerScorer(open_engine("torch", model, CPU), DrawnTokenizer(), POSITIONS)
        found = TransformerScorer(open_engine(engine, model, CPU), DrawnTokenizer(), POSITIONS)
        for one, other in zip(found.score_lists(LISTS), exact.score_lists(LISTS)):
            np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCES.get(engine, 1e-4))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of its own modules
@pytest.mark.parametrize("name", SHAPES)
def test_a_compiled_model_scores_as_the_reference(name: str) -> None:
    model = uneven(name)
    try:
        engine = open_engine("torch-compile", model, CPU)
    except ValueError as problem:
        pytest.skip(str(problem))
    exact = TransformerScorer(open_engine("torch", model, CPU), DrawnTokenizer(), POSITIONS)
    found = TransformerScorer(engine, DrawnTokenizer(), POSITIONS)
    for one, other in zip(found.score_lists(LISTS), exact.score_lists(LISTS)):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", SHAPES)
def test_kept_keys_and_values_change_no_score(name: str) -> None:
    """Prefix by prefix, as the lattice beam asks; the store has room for one path only."""
    model = uneven(name)
    exact = TransformerScorer(open_engine("torch", model, CPU), DrawnTokenizer(), POSITIONS)
    lm = CachedPrefixes(model, DrawnTokenizer(), engine=CPU)
    for text, expected in zip(LISTS[0], exact.score_lists(LISTS)[0]):
        prefix, total = lm.root(0), 0.0
        for word in text.split():
            total += float(lm.score([(prefix, word)])[0])
            prefix = lm.child(prefix, word)
        total += float(lm.score([(prefix, SENTENCE_END)])[0])
        assert total == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("engine", EARLY)
def test_early_termination_finds_the_best(name: str, engine: str) -> None:
    model = uneven(name)
    row = ENGINES[engine]
    if row.architectures is not None and model.shape.architecture not in row.architectures:
        pytest.skip(f"engine {engine} computes {', '.join(row.architectures)}")
    made = open_engine(engine, model, CPU)
    whole = TransformerScorer(made, DrawnTokenizer(), POSITIONS)
    assert row.nodes is not None
    try:
        nodes = row.nodes(model, made, CPU)
    except ValueError as problem:
        pytest.skip(str(problem))
    early = EarlyScorer(nodes, DrawnTokenizer(), POSITIONS, whole.score_lists)
    others = [np.linspace(0.0, -1.0, len(one)) for one in LISTS]
    scores = whole.score_lists(LISTS)
    parts = early.score_lists(LISTS, others, 0.7)
    for other, score, part in zip(others, scores, parts):
        best = int(np.argmax(other + 0.7 * score))
        assert part.complete[best]
        assert int(np.argmax(np.where(part.complete, other + 0.7 * part.lm, -np.inf))) == best
        tolerance = max(row.slack, 1e-4)
        np.testing.assert_allclose(
            part.lm[part.complete], score[part.complete], rtol=0, atol=tolerance
        )
