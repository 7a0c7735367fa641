"""Neurons and heads that leave whole."""

from __future__ import annotations

import copy

import pytest
import torch

from asrprune.lm.model.shapes import BlockShape, ModelShape
from asrprune.prune.surgery.units import count_units, keep_units, unit_cost
from tests.prune.small_models import SHAPES, V, logits
from tests.prune.tiny_lm import tiny
from tests.small_lm import drawn_model

GROUPS = (1, 3, 2)
UNEVEN = ModelShape(V, 16, 4, 12, (BlockShape(6, 8, groups=GROUPS),) * 2, architecture="llama")
MODELS = {**SHAPES, "uneven groups": UNEVEN}


def test_compaction_computes_what_zeros_compute() -> None:
    model = tiny()
    masked, compact = copy.deepcopy(model), copy.deepcopy(model)
    neurons, heads = torch.tensor([0, 5, 6, 40]), torch.tensor([1])
    with torch.no_grad():
        gone = torch.ones(64, dtype=torch.bool)
        gone[neurons] = False
        masked.blocks[0].ffn.down.weight[:, gone] = 0
        masked.blocks[1].attn.o.weight[:, :8] = 0
    keep_units(compact.layers()[0], model.anatomy.ffn, neurons)
    keep_units(compact.layers()[1], model.anatomy.attention, heads)
    tokens = torch.tensor([[1, 4, 5, 6]])
    with torch.no_grad():
        one, two = masked.logits(masked(tokens)[0]), compact.logits(compact(tokens)[0])
    assert torch.allclose(one, two, atol=1e-5)
    assert compact.shape.blocks[0].ffn == 4
    assert compact.shape.blocks[1].heads == 1


def test_a_query_head_has_the_owner_that_attention_gives_it() -> None:
    """The head whose key and value head falls silent is the one that says nothing more."""
    model = drawn_model(UNEVEN)
    block, size = model.layers()[0], 4
    assert block.attn.owners.tolist() == [0, 1, 1, 1, 2, 2]
    x = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0))
    read: list[torch.Tensor] = []
    for owner in range(len(GROUPS)):
        silent = copy.deepcopy(block)
        with torch.no_grad():
            silent.attn.v.product()[owner * size : (owner + 1) * size] = 0.0
        silent.attn.o.register_forward_hook(lambda module, inputs, output: read.append(inputs[0]))
        silent.attn(x, None, None)
        heads = read[-1].view(5, 6, size).abs().sum(dim=(0, 2))
        assert (heads == 0).tolist() == [one == owner for one in block.attn.owners.tolist()]


@pytest.mark.parametrize(
    ("kept", "groups"),
    [
        ([0, 1, 2, 3, 4, 5], (1, 3, 2)),
        ([0, 2, 3], (1, 2)),
        ([1, 5], (1, 1)),
        ([4], (1,)),
        ([], ()),
    ],
)
def test_a_shared_key_and_value_head_leaves_with_its_last_query_head(
    kept: list[int], groups: tuple[int, ...]
) -> None:
    zeroed = drawn_model(UNEVEN)
    compact = copy.deepcopy(zeroed)
    with torch.no_grad():
        gone = torch.ones(6, dtype=torch.bool)
        gone[kept] = False
        zeroed.layers()[1].attn.o.product()[:, gone.repeat_interleave(4)] = 0.0
    block = compact.layers()[1]
    keep_units(block, compact.anatomy.attention, torch.tensor(kept, dtype=torch.long))
    assert block.shape.groups == groups
    assert block.attn.k.out_features == block.attn.v.out_features == 4 * len(groups)
    torch.testing.assert_close(logits(compact), logits(zeroed), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_unit_costs_what_leaves_with_it(name: str) -> None:
    model = drawn_model(MODELS[name])
    before = sum(linear.weights for _, linear in model.linears())
    for coupling in model.anatomy.couplings:
        whole = model.layers()[1]
        own, shared = unit_cost(whole, coupling)
        count = count_units(whole, coupling)
        for first in range(count):
            smaller = copy.deepcopy(model)
            block = smaller.layers()[1]
            keep_units(block, coupling, torch.tensor([n for n in range(count) if n != first]))
            saved = before - sum(linear.weights for _, linear in smaller.linears())
            with_group = whole.attn.kv_heads - block.attn.kv_heads if coupling.heads else 0
            assert saved == own + with_group * shared
            assert count_units(block, coupling) == count - 1
