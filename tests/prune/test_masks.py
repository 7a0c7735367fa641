"""Masks: zeros where they say removed, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from asrprune.lm.model.shapes import Place
from asrprune.prune.masks import EMBEDDING, apply_masks
from tests.prune.small_models import SHAPES
from tests.small_lm import drawn_model


@pytest.mark.parametrize("name", SHAPES)
def test_zeros_stand_where_the_mask_says_removed(name: str) -> None:
    model = drawn_model(SHAPES[name])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    masks = {}
    for place in (Place(0, "attn.k"), Place(1, "ffn.down")):
        weight = dict(model.linears())[place].product()
        masks[place] = torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    table = before["embedding.weight"]
    kept = torch.rand(table.shape, generator=torch.Generator().manual_seed(2)) < 0.4
    apply_masks(model, {**masks, EMBEDDING: kept})
    assert torch.equal(model.embedding.weight, before.pop("embedding.weight") * kept)
    assert not torch.signbit(model.embedding.weight[~kept]).any()
    for place in masks:  # a negative weight leaves no negative zero, which files would keep
        assert not torch.signbit(dict(model.linears())[place].weight[~masks[place]]).any()
    for place, linear in model.linears():
        key = f"blocks.{place}.weight"
        kept = masks.get(place, torch.ones_like(before[key], dtype=torch.bool))
        assert torch.equal(linear.product(), before.pop(key) * kept)
    for key, value in before.items():
        assert torch.equal(model.state_dict()[key], value)
    apply_masks(model, {})
    assert dict(model.linears())[Place(0, "attn.k")].product().any()
