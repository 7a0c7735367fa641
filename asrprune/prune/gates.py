"""What can be removed: the tiles of a matrix, from single weights to whole columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor, nn

from asrprune.lm.model.layers import AnyLinear, DenseLinear


@dataclass(frozen=True)
class Gate:
    """A matrix cut into equal tiles, each of which can be removed by writing zeros there.

    Every method prunes through gates, so that every criterion serves every method: a single
    weight is a 1 x 1 tile, a 4x1 block a 4 x 1 tile, an FFN neuron a column of ``ffn.down``, an
    attention head ``head_dim`` columns of ``attn.o``, a rank-one component a column of A.

    ``part`` names the parameter of ``linear`` that is cut: ``weight`` [out, in] of a dense
    matrix, ``A`` [out, rank] or ``B`` [rank, in] of a factored one. ``cost`` is the number of
    prunable parameters that removing one tile saves. ``feeding`` [columns of the matrix] is the
    squared norm of the weights that make each input feature and vanish with it (None: nothing
    else vanishes).
    """

    key: str
    linear: AnyLinear
    part: str
    rows: int
    columns: int
    cost: int
    feeding: Optional[Tensor] = None

    def __post_init__(self) -> None:
        height, width = self.matrix.shape
        if self.rows < 1 or self.columns < 1 or height % self.rows or width % self.columns:
            raise ValueError(
                f"{self.key}: a {height} x {width} matrix is not made of whole "
                f"{self.rows} x {self.columns} tiles"
            )

    @property
    def matrix(self) -> nn.Parameter:
        """The parameter that is cut into tiles."""
        parameter: nn.Parameter = getattr(self.linear, self.part)
        return parameter

    @property
    def place(self) -> str:
        """The name of that parameter in its model: ``0.ffn.up.weight``."""
        return f"{self.key}.{self.part}"

    def features(self, x: Tensor) -> Tensor:
        """What the matrix multiplies, [..., columns], from the input x of the whole linear."""
        if self.part == "A":
            assert not isinstance(self.linear, DenseLinear)
            return nn.functional.linear(x, self.linear.B)
        return x

    def output_gradient(self, gradient: Tensor) -> Tensor:
        """Gradient at the matrix's own output, from the one at the output of the linear."""
        if self.part == "B":
            assert not isinstance(self.linear, DenseLinear)
            return gradient @ self.linear.factors()[0]
        return gradient

    def tile_sum(self, values: Tensor) -> Tensor:
        """Sums over the tiles of a tensor shaped as the matrix: [tile rows, tile columns]."""
        return tile_sum(values, self.rows, self.columns)


def tile_sum(values: Tensor, rows: int, columns: int) -> Tensor:
    """Sums over tiles of ``rows`` x ``columns``: [H, W] to [H / rows, W / columns].

    >>> tile_sum(torch.arange(8.0).view(2, 4), 2, 1).tolist()
    [[4.0, 6.0, 8.0, 10.0]]
    """
    height, width = values.shape
    if rows == columns == 1:
        return values
    tiles = values.reshape(height // rows, rows, width // columns, columns)
    return tiles.sum(dim=(1, 3))


def entry(linear: AnyLinear) -> str:
    """The part of a linear whose columns are the linear's input features."""
    return "weight" if isinstance(linear, DenseLinear) else "B"


def whole(linear: AnyLinear) -> Tensor:
    """The matrix [out, in] that a linear stands for, without gradient."""
    with torch.no_grad():
        if isinstance(linear, DenseLinear):
            return linear.weight.detach()
        return linear.product()
