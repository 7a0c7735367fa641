"""One contract for every criterion x method, and for every schedule: entries are tested by being
listed."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asrprune.lm.model.checkpoint import load_checkpoint, save_checkpoint
from asrprune.lm.model.matrices import DenseLinear, Matrix
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.masks import Masks
from asrprune.prune.methods import METHODS, Options
from asrprune.prune.methods.method import kept_parameters, prunable_parameters
from asrprune.prune.methods.repair import REPAIRS
from asrprune.prune.run import loop
from asrprune.prune.run.loop import prune_family
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.schedules import SCHEDULES, budget_until, one_run
from asrprune.prune.run.scorer import DataScorer, PruningData
from asrprune.text.corpus import TokenStream
from tests.quick import grid, slow

V = 30
PRUNERS = [name for name, method in METHODS.items() if not method.fresh]
FREE = Options(min_heads=0, min_width=0, min_rank=0)
PIVOTED = replace(FREE, form="pivoted")
VARIANTS = {
    **{name: (name, FREE) for name in PRUNERS},
    "width": ("width", replace(FREE, multiple_of=1)),
    "low-rank, pivoted": ("low-rank", PIVOTED),
    "low-rank+structured, pivoted": ("low-rank+structured", PIVOTED),
}
"""What is tested -> method and options."""
TOKENS = torch.tensor([[1, 3, 4, 9], [1, 7, 7, 2]])


def small_data() -> PruningData:
    rng = np.random.default_rng(0)
    sentences = [rng.integers(3, V, size=rng.integers(0, 9)).tolist() for _ in range(40)]
    return PruningData(TokenStream.from_sentences(sentences))


DATA = small_data()


def small_model(heads: int = 2, seed: int = 0) -> TransformerLM:
    torch.manual_seed(seed)
    return TransformerLM(ModelShape.uniform(V, 16, 2, heads, max_positions=12)).eval()


def logits(model: TransformerLM) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(model(TOKENS)[0])


def tied(model: TransformerLM) -> TransformerLM:
    """All weights equal: every score ties with every other of its kind."""
    with torch.no_grad():
        for _, linear in model.linears():
            linear.weight.fill_(0.25)
    return model


def silent(model: TransformerLM) -> TransformerLM:
    """One block whose matrices and biases are all zero."""
    with torch.no_grad():
        for place, linear in model.linears():
            if place.block == 0:
                linear.weight.zero_()
                linear.bias.zero_()
    return model


CASES = {
    "plain": small_model,
    "one head": lambda: small_model(heads=1),
    "ties": lambda: tied(small_model()),
    "all-zero block": lambda: silent(small_model()),
}


@pytest.mark.parametrize(
    ("criterion", "variant", "case"),
    grid(CRITERIA, VARIANTS, CASES, centre=("magnitude", "structured", "plain")),
)
def test_every_criterion_with_every_method(criterion: str, variant: str, case: str) -> None:
    method, options = VARIANTS[variant]
    model = CASES[case]()
    dense = copy.deepcopy(model)
    plan = Plan(criterion=criterion, method=method, statistics_tokens=60)
    masks: Masks = {}
    total = sum(prunable_parameters(model, FREE.matrices).values())
    most = 0.5 if method in ("2:4", "4:8") else 1.0
    shapes, kept_masks = [dense.shape], []
    for step, sparsity in enumerate((0.0, 0.25 * most, 0.5 * most, most)):
        keep = total - round(sparsity * total)
        scorer = DataScorer(plan, DATA, step)
        if method == "width" and sparsity == 1.0:  # there is no LM without a residual stream
            with pytest.raises(ValueError, match="the least that this method can keep"):
                METHODS[method].apply(model, keep, scorer, options, masks)
            break
        METHODS[method].apply(model, keep, scorer, options, masks)
        left = sum(kept_parameters(model, FREE.matrices, masks).values())
        tolerance = {
            "unstructured": 0,
            "width": 0.5 / 16,  # half a channel of 16
            "structured": 0.06,
            "low-rank": 0.06,
            "low-rank+structured": 0.06,
            "depth": 0.18,  # half an FFN of two
        }.get(method, 0.002)
        assert abs(left - keep) <= tolerance * total
        assert torch.isfinite(logits(model)).all()
        if sparsity == 0.0:
            assert torch.equal(logits(model), logits(dense))  # bit for bit
        if sparsity == 1.0:
            assert left == 0
        shapes.append(model.shape)
        kept_masks.append({key: mask.clone() for key, mask in masks.items()})
    for before, after in zip(kept_masks, kept_masks[1:]):  # nothing comes back
        assert all(not (after[key] & ~before[key]).any() for key in before)
    for before_shape, after_shape in zip(shapes, shapes[1:]):
        for one, two in zip(before_shape.blocks, after_shape.blocks):
            assert (two.heads, two.ffn) <= (one.heads, one.ffn)
    for place, linear in model.linears():
        if masks:  # what the mask says is what the weights are
            assert not linear.weight[~masks[place]].any()
    assert bool(masks) == METHODS[method].masks


@pytest.mark.parametrize(
    ("criterion", "method"),
    grid(CRITERIA, PRUNERS, centre=("kfac", "structured")),
)
def test_the_same_call_gives_the_same_model(criterion: str, method: str) -> None:
    plan = Plan(criterion=criterion, method=method, statistics_tokens=60)
    results = []
    for _ in range(2):
        model = small_model()
        total = sum(prunable_parameters(model, FREE.matrices).values())
        METHODS[method].apply(model, total // 2, DataScorer(plan, DATA, 0), FREE, {})
        results.append(model)
    assert torch.equal(logits(results[0]), logits(results[1]))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_statistics_leave_the_model_as_it_was(criterion: str) -> None:
    model = small_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan = Plan(criterion=criterion, method="structured", statistics_tokens=60)
    total = sum(prunable_parameters(model, FREE.matrices).values())
    METHODS["structured"].apply(model, total, DataScorer(plan, DATA, 0), Options(), {})
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("case", ["plain", *slow(list(CASES)[1:])])
@pytest.mark.parametrize("method", [name for name in PRUNERS if METHODS[name].masks])
@pytest.mark.parametrize("repair", REPAIRS)
def test_every_repair_keeps_masks_exact_and_nested(repair: str, method: str, case: str) -> None:
    model = CASES[case]()
    plan = Plan(criterion="activation", method=method, statistics_tokens=60)
    options = Options(repair=repair)
    total = sum(prunable_parameters(model, FREE.matrices).values())
    masks: Masks = {}
    before, dense = {}, logits(model)
    for step, sparsity in enumerate((0.0, 0.25, 0.5)):
        keep = total - round(sparsity * total)
        METHODS[method].apply(model, keep, DataScorer(plan, DATA, step), options, masks)
        if sparsity == 0.0:
            assert torch.equal(logits(model), dense)
        assert sum(int(mask.sum()) for mask in masks.values()) == keep
        for place, linear in model.linears():
            assert not linear.weight[~masks[place]].any()
            assert not (masks[place] & ~before.get(place, masks[place])).any()
        before = dict(masks)
    assert torch.isfinite(logits(model)).all()


@pytest.mark.parametrize("unit", ["sublayer", "block"])
def test_depth_computes_what_skipping_computes(unit: str) -> None:
    """Against the model in which the units of least score add their bias alone."""
    model = small_model()
    with torch.no_grad():
        for place, linear in model.linears():
            linear.bias.normal_()
            linear.weight.mul_(1.0 if place in ((0, "attn.o"), (1, "ffn.down")) else 9.0)
    dense = copy.deepcopy(model)
    total = sum(prunable_parameters(model, FREE.matrices).values())
    plan = Plan(criterion="magnitude", method="depth")
    options = Options(depth_unit=unit)
    METHODS["depth"].apply(model, total // 2, DataScorer(plan, DATA, 0), options, {})
    assert sum(prunable_parameters(model, FREE.matrices).values()) == total // 2
    left = [(block.heads, block.ffn) for block in model.shape.blocks]
    gone = [(0, "attn.o"), (1, "ffn.down")]
    if unit == "block":
        empty = left.index((0, 0))
        gone = [(empty, "attn.o"), (empty, "ffn.down")]
        assert left[1 - empty] == (2, 64)
    with torch.no_grad():
        for index, name in gone:
            dense.blocks[index].linear(name).weight.zero_()
    assert torch.allclose(logits(model), logits(dense), atol=1e-5)


def test_a_repair_without_zeros_is_refused() -> None:
    with pytest.raises(ValueError, match="makes no zeros"):
        Plan(method="low-rank", options=Options(repair="obs"))


@pytest.mark.parametrize("method", ["structured", "low-rank"])
def test_nothing_vanishes_unless_asked(method: str) -> None:
    model = small_model()
    plan = Plan(method=method, criterion="magnitude")
    with pytest.raises(ValueError, match="the least that this method can keep is"):
        METHODS[method].apply(model, 0, DataScorer(plan, DATA, 0), Options(), {})
    if method == "structured":
        least = 2 * (4 * 16 * 8 + 2 * 16 * 8)  # a head and 8 neurons in each of two blocks
        METHODS[method].apply(model, least, DataScorer(plan, DATA, 0), Options(), {})
        assert [(block.heads, block.ffn) for block in model.shape.blocks] == [(1, 8), (1, 8)]


def test_a_global_mask_keeps_a_share_of_every_matrix() -> None:
    model = silent(small_model())
    plan = Plan(criterion="magnitude")
    masks: Masks = {}
    total = sum(prunable_parameters(model, FREE.matrices).values())
    METHODS["unstructured"].apply(model, total // 10, DataScorer(plan, DATA, 0), Options(), masks)
    assert sum(int(mask.sum()) for mask in masks.values()) == total // 10
    assert all(mask.sum() >= 0.01 * mask.numel() for mask in masks.values())


@pytest.mark.parametrize("scope", ["matrix", "row"])
def test_scopes_remove_the_same_share_everywhere(scope: str) -> None:
    model = small_model()
    plan = Plan(criterion="taylor", statistics_tokens=60)
    masks: Masks = {}
    total = sum(prunable_parameters(model, FREE.matrices).values())
    options = Options(scope=scope)
    METHODS["unstructured"].apply(model, total // 4, DataScorer(plan, DATA, 0), options, masks)
    assert sum(int(mask.sum()) for mask in masks.values()) == total // 4
    for mask in masks.values():
        shares = mask.float().mean() if scope == "matrix" else mask.float().mean(1)
        assert torch.allclose(shares, torch.full_like(shares, 0.25))


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("method", PRUNERS)
def test_every_criterion_method_and_schedule_makes_a_family(
    method: str, schedule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved members load without flags, have the size that was asked, and are nested."""
    monkeypatch.setattr(loop, "plot_if_possible", lambda folder, family: None)
    (tmp_path / "pieces").write_bytes(b"pieces")
    dense = save_checkpoint(tmp_path / "lm", small_model(), tmp_path / "pieces", {})
    sizes = (0.2, 0.4)
    off = {"depth": 0.18, "structured": 0.1, "low-rank": 0.06, "low-rank+structured": 0.06}
    off["width"] = 0.5 / 16
    for criterion in CRITERIA:
        options = Options(min_width=1, min_rank=1, multiple_of=1)
        plan = Plan(
            criterion, method, schedule, sizes, 3, 64, statistics_tokens=60, options=options
        )
        out = tmp_path / criterion
        parent = load_checkpoint(dense)
        family = prune_family(parent, DATA, plan, out, {}, {})
        assert [member.asked for member in family.members] == list(sizes)
        before = None
        for member in family.members:
            assert abs(member.measured - member.asked) <= off.get(method, 0.003), criterion
            saved = load_checkpoint(out / member.folder).model
            assert torch.isfinite(logits(saved)).all()
            kept = dict(saved.linears())
            assert member.faster != METHODS[method].masks
            for key, linear in kept.items() if before and schedule != "one-shot" else ():
                assert _nested(before[key], linear), (criterion, key)
            before = kept


def _nested(large: Matrix, small: Matrix) -> bool:
    """Nothing is in the smaller matrix that was gone from the larger one."""
    if isinstance(large, DenseLinear) and isinstance(small, DenseLinear):
        if large.weight.shape == small.weight.shape:
            return not (small.weight[large.weight == 0]).any()
        return small.weight.numel() <= large.weight.numel()
    return small.weights <= large.weights


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_rises_and_ends_on_target(schedule: str) -> None:
    for n_steps in (1, 3, 10):
        values = [SCHEDULES[schedule](step, n_steps, 0.2, 0.9) for step in range(n_steps + 1)]
        assert values[0] == pytest.approx(0.2)
        assert values[-1] == 0.9
        assert values == sorted(values)
    for step, n_steps, start, final in ((-1, 3, 0, 1), (4, 3, 0, 1), (0, 3, 0.5, 0.2)):
        with pytest.raises(ValueError, match="expected"):
            SCHEDULES[schedule](step, n_steps, start, final)


def test_cubic_by_hand() -> None:
    assert SCHEDULES["cubic"](1, 2, 0.0, 0.8) == pytest.approx(0.8 - 0.8 / 8)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sizes", [(0.5,), (0.3, 0.5, 0.7), (0.1, 0.2, 0.25, 0.8), (0.0, 1.0)])
def test_one_run_meets_every_size(schedule: str, sizes: tuple[float, ...]) -> None:
    for n_steps in (1, 2, 8):
        steps = one_run(schedule, n_steps, 0.0, sizes)
        assert [step.member for step in steps if step.member is not None] == sorted(sizes)
        assert all(step.member in (None, step.sparsity) for step in steps)
        assert [step.sparsity for step in steps] == sorted({step.sparsity for step in steps})
        assert len(steps) <= max(n_steps, len(sizes))
        for growth in (1.0, 2.0):
            counts = range(len(steps) + 1)
            budget = [budget_until(steps, count, 1001, 0.4, growth) for count in counts]
            assert budget == sorted(budget)
            assert (budget[0], budget[-1]) == (0, 1001)


def test_the_baseline_is_dense_fresh_and_of_the_asked_size() -> None:
    for sparsity in (0.0, 0.3, 0.5, 0.7):
        model = small_model()
        old = model.blocks[0].linear("attn.q").weight.detach().clone()
        total = sum(prunable_parameters(model, FREE.matrices).values())
        keep = total - round(sparsity * total)
        plan = Plan(method="scratch", schedule="one-shot")
        METHODS["scratch"].apply(model, keep, DataScorer(plan, DATA, 0), Options(), {})
        assert abs(sum(prunable_parameters(model, FREE.matrices).values()) - keep) <= 0.05 * total
        assert all(not block.linears for block in model.shape.blocks)
        new = model.blocks[0].linear("attn.q").weight
        assert new.shape != old.shape or not torch.equal(new, old)
    with pytest.raises(ValueError, match="expected one-shot"):
        Plan(method="scratch", schedule="cubic")
