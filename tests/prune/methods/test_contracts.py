"""One contract for every criterion x method: entries are tested by being listed."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from asrprune.prune.criteria import CRITERIA
from asrprune.prune.masks import Masks
from asrprune.prune.methods import METHODS, Options
from asrprune.prune.methods.method import kept_parameters, prunable_parameters
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.scorer import DataScorer
from tests.prune.small_models import CASES, DATA, FREE, PRUNERS, logits, small_model
from tests.quick import grid

INTERPOLATIVE = replace(FREE, form="interpolative")
VARIANTS = {
    **{name: (name, FREE) for name in PRUNERS},
    "width": ("width", replace(FREE, multiple_of=1)),
    "width+structured": ("width+structured", replace(FREE, multiple_of=1)),
    "low-rank, interpolative": ("low-rank", INTERPOLATIVE),
    "low-rank+structured, interpolative": ("low-rank+structured", INTERPOLATIVE),
    "structured, anchored": ("structured", replace(FREE, compensation="anchored")),
    "low-rank, anchored": ("low-rank", replace(INTERPOLATIVE, compensation="anchored")),
}
"""What is tested -> method and options."""


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
            "width+structured": 0.06,
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
