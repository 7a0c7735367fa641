"""Quantised matrices and activations in int8, as kernel.cpp multiplies them, and the same in torch.

Weights are quantised symmetrically per output channel, activations asymmetrically per token,
dynamically: nothing is calibrated, and a token's scale and zero point depend on that token alone.
On x86 without VNNI an instruction multiplies unsigned values by signed ones and adds two
products in 16 bits; adding two such sums before they are widened saves a quarter of the
multiplications. So that nothing overflows there, quantised activations are 0..127, and of the four
weights that meet (inputs 8i + {0, 1, 4, 5} or 8i + {2, 3, 6, 7} of an output) those of one sign
add up to 258 at most (127 * 258 = 32766). The largest weights of an output seldom stand together:
in a trained LM four of five outputs still use the whole range, up to 127.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from asrprune.lm.model.layers import TokenEmbedding
from asrprune.lm.model.matrices import Matrix
from asrprune.lm.model.transformer import TransformerLM

LARGEST = 127
"""The largest quantised activation, and weight without its sign."""

GROUP_SUM = 256
"""What four weights of one sign may add up to, quantised, before they are rounded (258 after)."""

PANEL = 16
"""Outputs that are packed together."""

_SMALLEST = 1e-30  # scale: distance of two quantised values

Floats = NDArray[np.float32]


def quantise_matrix(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Quantised values -127..127 of W [outputs, inputs] and a scale an output: W ~ values * scales.

    A row of zeros stays zero. Raises ValueError for a weight that is not finite.
    """
    if not np.isfinite(weight).all():
        raise ValueError("a weight matrix holds non-finite values")
    up, down = (_fours(side) for side in (np.maximum(weight, 0), np.maximum(-weight, 0)))
    largest = np.maximum(up, down).max(axis=1, initial=0.0) / GROUP_SUM
    scales = np.maximum(largest, np.abs(weight).max(axis=1, initial=0.0) / LARGEST)
    scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
    return np.round(weight / scales[:, None]).astype(np.int8), scales


def _fours(rows: Floats) -> Floats:
    """Sums of the four inputs that meet in one number of 16 bits, [outputs, groups]."""
    whole = filled(rows, 1, 8)
    eights = whole.reshape(len(rows), whole.shape[1] // 8, 2, 2, 2)  # half, lane, neighbour
    sums: Floats = eights.sum(axis=(2, 4)).reshape(len(rows), whole.shape[1] // 4)
    return sums


def filled(values: NDArray[Any], axis: int, step: int) -> NDArray[Any]:
    """``values`` with zeros behind, up to a multiple of ``step`` along ``axis``."""
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, -values.shape[axis] % step)
    return np.pad(values, widths)


def pack_codes(codes: NDArray[np.int8]) -> NDArray[np.int8]:
    """[outputs, inputs] as the kernel reads it, flat: see Matrix in kernel.cpp."""
    whole = filled(filled(codes, 0, PANEL), 1, 8)
    outputs, inputs = whole.shape
    panels = whole.reshape(outputs // PANEL, PANEL, inputs // 4, 4).transpose(0, 2, 1, 3)
    aligned = np.empty(whole.size + 64, np.int8)
    start = -aligned.ctypes.data % 64  # a vector never lies across two lines of the cache
    aligned = aligned[start : start + whole.size]
    aligned[:] = panels.reshape(-1)
    return aligned


def round_rows(x: Tensor) -> Tensor:
    """Every row of ``x`` [..., size] quantised to 0..127 and back; 0 is exact."""
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / LARGEST).clamp(min=_SMALLEST)
    inverse = 1.0 / scale
    zero = (-low * inverse).round()
    return ((x * inverse).round() + zero).clamp(0, LARGEST).sub(zero) * scale


def round_matrix(weight: Tensor) -> Tensor:
    """W [outputs, inputs] quantised and back."""
    codes, scales = quantise_matrix(weight.detach().cpu().float().numpy())
    return torch.from_numpy(codes * scales[:, None])


def rounded_model(model: TransformerLM) -> TransformerLM:
    """A copy in float32 that multiplies what the kernel multiplies, quantised and back.

    It differs from the kernel where another rounding of a sum sends an activation to the next code.

    Raises ValueError for a weight that is not finite.
    """
    model = copy.deepcopy(model).float().cpu().eval()
    for place, linear in list(model.linears()):
        model.put(place, _RoundedLinear(linear))  # type: ignore[arg-type]
    model.embedding = _RoundedEmbedding(model.embedding)  # type: ignore[assignment]
    return model


class _RoundedLinear(nn.Module):
    def __init__(self, linear: Matrix) -> None:
        super().__init__()
        self.out_features = linear.out_features
        self._matrices = [round_matrix(part) for part in linear.parts.values()]
        self._order = linear.arrangement
        assert linear.bias is not None  # engine int8 computes gpt2
        self._bias = linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        inner = x
        for matrix in self._matrices:
            if inner.shape[-1] == 0:
                return self._bias.expand(*x.shape[:-1], -1)
            before, inner = inner, functional.linear(round_rows(inner), matrix)
        if self._order is not None:
            inner = torch.cat([before, inner], dim=-1)[..., self._order]
        return inner + self._bias


class _RoundedEmbedding(nn.Module):
    def __init__(self, embedding: TokenEmbedding) -> None:
        super().__init__()
        self.weight = self.output_weight = round_matrix(embedding.weight)
        self.projection = embedding.projection
        if self.projection is not None:
            self._spread = round_matrix(self.projection.T)
            self._narrow = round_matrix(self.projection)

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = functional.embedding(tokens, self.weight)
        if self.projection is None:
            return vectors
        return functional.linear(round_rows(vectors), self._spread)

    def features(self, hidden: Tensor) -> Tensor:
        if self.projection is not None:
            hidden = functional.linear(round_rows(hidden), self._narrow)
        return round_rows(hidden)
