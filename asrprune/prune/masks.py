"""Masks: which weights of a matrix are kept, and zeros where they are not."""

from __future__ import annotations

import torch
from torch import Tensor

from asrprune.lm.model.matrices import DenseLinear
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM

Masks = dict[Place, Tensor]
"""Matrix -> boolean tensor shaped as its weight, True = kept."""


def apply_masks(model: TransformerLM, masks: Masks) -> None:
    """Write zeros where the masks say removed."""
    with torch.no_grad():
        for place, linear in model.linears():
            mask = masks.get(place)
            if mask is not None:
                assert isinstance(linear, DenseLinear)
                # three times as fast as masked_fill_ on a CPU; -0.0 becomes 0.0
                linear.weight.mul_(mask).add_(0.0)
