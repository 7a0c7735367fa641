"""Masks: which weights of a matrix are kept, and zeros where they are not."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from asrprune.lm.model.matrices import DenseLinear
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM

Masks = dict[Place, Tensor]
"""Matrix, EMBEDDING or POSITIONS -> boolean tensor shaped as its weight, True = kept."""

EMBEDDING = Place(-1, "embedding")
POSITIONS = Place(-1, "positions")
"""Where Masks have those of the embedding and of learned positions, which belong to no block."""
TABLES = (EMBEDDING, POSITIONS)


def matrices_are_masked(masks: Masks) -> bool:
    """Whether a matrix is masked, and not tables alone."""
    return any(place not in TABLES for place in masks)


def apply_masks(model: TransformerLM, masks: Masks) -> None:
    """Write zeros where the masks say removed."""
    with torch.no_grad():
        for weight, mask in masked_weights(model, masks):
            # three times as fast as masked_fill_ on a CPU; -0.0 becomes 0.0
            weight.mul_(mask).add_(0.0)


def masked_weights(model: TransformerLM, masks: Masks) -> Iterator[tuple[Tensor, Tensor]]:
    """The weights that have a mask, each with it."""
    if EMBEDDING in masks:
        yield model.embedding.weight, masks[EMBEDDING]
    if POSITIONS in masks:
        assert model.positions is not None
        yield model.positions, masks[POSITIONS]
    for place, linear in model.linears():
        mask = masks.get(place)
        if mask is not None:
            assert isinstance(linear, DenseLinear)
            yield linear.weight, mask
