"""Neurons and heads that leave whole."""

from __future__ import annotations

import copy

import torch

from asrprune.lm.model.gpt2 import ANATOMY
from asrprune.prune.surgery.units import keep_units
from tests.prune.tiny_lm import tiny


def test_compaction_computes_what_zeros_compute() -> None:
    model = tiny()
    masked, compact = copy.deepcopy(model), copy.deepcopy(model)
    neurons, heads = torch.tensor([0, 5, 6, 40]), torch.tensor([1])
    with torch.no_grad():
        gone = torch.ones(64, dtype=torch.bool)
        gone[neurons] = False
        masked.blocks[0].ffn.down.weight[:, gone] = 0
        masked.blocks[1].attn.o.weight[:, :8] = 0
    keep_units(compact.layers()[0], ANATOMY.ffn, neurons)
    keep_units(compact.layers()[1], ANATOMY.attention, heads)
    tokens = torch.tensor([[1, 4, 5, 6]])
    with torch.no_grad():
        one, two = masked.logits(masked(tokens)[0]), compact.logits(compact(tokens)[0])
    assert torch.allclose(one, two, atol=1e-5)
    assert compact.shape.blocks[0].ffn == 4
    assert compact.shape.blocks[1].heads == 1
