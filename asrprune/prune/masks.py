"""Masks: which weights of a matrix are kept, and zeros where they are not."""

from __future__ import annotations

import torch
from torch import Tensor

from asrprune.lm.model.layers import DenseLinear
from asrprune.lm.model.transformer import TransformerLM

Masks = dict[str, Tensor]
"""Matrix key (``"0.ffn.up"``) -> boolean tensor shaped as its weight, True = kept."""


def matrix_key(index: int, name: str) -> str:
    """Block 0's FFN input matrix is ``0.ffn.up``."""
    return f"{index}.{name}"


def apply_masks(model: TransformerLM, masks: Masks) -> None:
    """Write zeros where the masks say removed."""
    with torch.no_grad():
        for index, name, linear in model.linears():
            mask = masks.get(matrix_key(index, name))
            if mask is not None:
                assert isinstance(linear, DenseLinear)
                linear.weight.masked_fill_(~mask, 0.0)
