"""Quantised matrices and activations in int8, as int8.h multiplies them.

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

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

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


def round_rows(x: Tensor) -> Tensor:
    """Every row of ``x`` [..., size] quantised to 0..127 and back; 0 is exact."""
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / LARGEST).clamp(min=_SMALLEST)
    inverse = 1.0 / scale
    zero = (-low * inverse).round()
    return ((x * inverse).round() + zero).clamp(0, LARGEST).sub(zero) * scale
