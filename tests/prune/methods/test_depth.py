"""Sublayers and blocks that leave whole."""

from __future__ import annotations

import copy

import pytest
import torch

from asrprune.prune.methods import METHODS, Options
from asrprune.prune.methods.method import prunable_parameters
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.scorer import DataScorer
from tests.prune.small_models import DATA, FREE, SHAPES, logits, small_model
from tests.small_lm import drawn_model


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


@pytest.mark.parametrize("name", SHAPES)
def test_a_sublayer_saves_all_its_weights(name: str) -> None:
    """Shared key and value heads count once; what is asked is met exactly where it can be."""
    whole = drawn_model(SHAPES[name])
    total = sum(prunable_parameters(whole, FREE.matrices).values())
    plan = Plan(criterion="magnitude", method="depth")
    for coupling in whole.anatomy.couplings:
        model = copy.deepcopy(whole)
        cost = sum(model.layers()[0].linear(matrix).weights for matrix in coupling.matrices)
        only = Options(matrices=coupling.matrices)
        scorer = DataScorer(plan, DATA, 0)
        METHODS["depth"].apply(model, cost, scorer, only, {})  # of two sublayers one
        left = sum(prunable_parameters(model, FREE.matrices).values())
        assert total - left == cost
        gone = [block for block in model.layers() if not block.linear(coupling.reader).weights]
        assert len(gone) == 1
        assert torch.isfinite(logits(model)).all()
