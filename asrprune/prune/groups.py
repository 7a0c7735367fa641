"""What can be removed: the tiles of a matrix, from single weights to whole columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from torch import Tensor, nn

from asrprune.lm.model.matrices import FactoredLinear, Matrix
from asrprune.lm.model.shapes import Place


@dataclass(frozen=True)
class Group:
    """A prunable group: a matrix cut into equal tiles, each of which is removed by writing zeros.

    Every method prunes through groups, so that every criterion serves every method: a single
    weight is a 1 x 1 tile, a 4x1 block a 4 x 1 tile, an FFN neuron a column of ``ffn.down``, an
    attention head ``head_dim`` columns of ``attn.o``, a rank-one component a column of A.

    ``part`` names the parameter of ``linear`` that is cut: ``weight`` [out, in] of a dense
    matrix, ``A`` [out, rank] or ``B`` [rank, in] of a factored one. ``cost`` is the number of
    prunable parameters that removing one tile saves. ``feeding`` [columns of the matrix] is the
    squared norm of the weights that make each input feature and vanish with it (None: nothing
    else vanishes).
    """

    place: Place
    linear: Matrix
    part: str
    rows: int
    columns: int
    cost: int
    feeding: Optional[Tensor] = None

    def __post_init__(self) -> None:
        height, width = self.matrix.shape
        if self.rows < 1 or self.columns < 1 or height % self.rows or width % self.columns:
            raise ValueError(
                f"{self.place}: a {height} x {width} matrix is not made of whole "
                f"{self.rows} x {self.columns} tiles"
            )

    @property
    def matrix(self) -> nn.Parameter:
        """The parameter that is cut into tiles."""
        parameter: nn.Parameter = getattr(self.linear, self.part)
        return parameter

    @property
    def parameter(self) -> str:
        """The name of that parameter in its model: ``0.ffn.up.weight``."""
        return f"{self.place}.{self.part}"

    def features(self, x: Tensor) -> Tensor:
        """What the matrix multiplies, [..., columns], from the input x of the whole linear."""
        if self.part == "A":
            assert isinstance(self.linear, FactoredLinear)
            return nn.functional.linear(x, self.linear.B)
        return x

    def output_gradient(self, gradient: Tensor) -> Tensor:
        """Gradient at the matrix's own output, from the one at the output of the linear."""
        if self.part == "B":
            assert isinstance(self.linear, FactoredLinear)
            return gradient @ self.linear.factors()[0]
        return gradient

    def tile_sum(self, values: Tensor) -> Tensor:
        """Sums over the tiles of a tensor shaped as the matrix: [tile rows, tile columns]."""
        return tile_sum(values, self.rows, self.columns)


def tile_sum(values: Tensor, rows: int, columns: int) -> Tensor:
    """Sums over tiles of ``rows`` x ``columns``: [H, W] to [H / rows, W / columns].

    >>> import torch
    >>> tile_sum(torch.arange(8.0).view(2, 4), 2, 1).tolist()
    [[4.0, 6.0, 8.0, 10.0]]
    """
    height, width = values.shape
    if rows == columns == 1:
        return values
    tiles = values.reshape(height // rows, rows, width // columns, columns)
    return tiles.sum(dim=(1, 3))
