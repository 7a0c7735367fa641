"""The matrices of a Transformer in their stored forms: dense, low rank, and interpolative.

A matrix knows how to shrink: what prunes it never asks which form it has. W is [out, in], a bias
[out] may be there or not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

from asrprune.lm.model.factors import balance, interpolative
from asrprune.lm.model.shapes import LinearShape


class Matrix(nn.Module, ABC):
    """``y = x W^T + b``. Both sizes may be 0."""

    bias: Optional[nn.Parameter]
    entry: str
    """The part whose columns are the matrix's inputs."""

    def __init__(self, in_features: int, out_features: int, bias: Optional[Tensor]) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.register_parameter("bias", None if bias is None else _parameter(bias))

    @property
    @abstractmethod
    def shape(self) -> LinearShape:
        """The stored form."""

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, nn.Parameter]:
        """What an input is multiplied with, in order: name -> weights [outputs, inputs]."""

    @property
    @abstractmethod
    def input_cost(self) -> int:
        """Weights that leave with one input."""

    @property
    @abstractmethod
    def output_cost(self) -> int:
        """Weights that leave with one output."""

    @abstractmethod
    def product(self) -> Tensor:
        """The matrix that this stands for, [out, in]."""

    @abstractmethod
    def mapped(
        self, left: Optional[Tensor], right: Optional[Tensor], bias: Optional[Tensor]
    ) -> Matrix:
        """``left W right`` (float64 inside; None: the identity) with another bias, in this form or
        dense where that is no larger."""

    @abstractmethod
    def keep_outputs(self, kept: Tensor) -> Matrix:
        """The matrix with only the outputs ``kept`` (ascending indices), as a new module."""

    @abstractmethod
    def keep_inputs(self, kept: Tensor) -> Matrix:
        """The matrix with only the inputs ``kept`` (ascending indices), as a new module."""

    @abstractmethod
    def size_with(self, in_features: int, out_features: int) -> int:
        """Weights that a matrix of these sizes takes in this form, or dense if that is less."""

    @property
    def arrangement(self) -> Optional[Tensor]:
        """Of a matrix that puts out all that its parts make: where each output stands in that,
        [out]; None where the last part makes the outputs in order."""
        return None

    @property
    def weights(self) -> int:
        """Weights as stored, without the bias."""
        return sum(part.numel() for part in self.parts.values())

    def _kept_bias(self, kept: Tensor) -> Optional[Tensor]:
        return None if self.bias is None else self.bias.detach()[kept]


class DenseLinear(Matrix):
    """One matrix ``weight``. ``used``: how many outputs ``forward`` makes, of how many inputs, the
    first ones of each; None: all."""

    entry = "weight"

    def __init__(self, weight: Tensor, bias: Optional[Tensor]) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias)
        self.weight = _parameter(weight)
        self.used: tuple[Optional[int], Optional[int]] = (None, None)

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.weight
        bias: Optional[Tensor] = self.bias
        if self.used != (None, None):
            outputs, inputs = self.used
            weight = weight[:outputs, :inputs]
            bias = None if bias is None else bias[:outputs]
        return functional.linear(x, weight, bias)  # [..., out]

    @property
    def shape(self) -> LinearShape:
        return LinearShape("dense")

    @property
    def parts(self) -> Mapping[str, nn.Parameter]:
        return {"weight": self.weight}

    @property
    def input_cost(self) -> int:
        return self.out_features

    @property
    def output_cost(self) -> int:
        return self.in_features

    def product(self) -> Tensor:
        return self.weight

    def mapped(
        self, left: Optional[Tensor], right: Optional[Tensor], bias: Optional[Tensor]
    ) -> Matrix:
        return DenseLinear(_times(self.weight, left, right), _like(bias, self.weight))

    def keep_outputs(self, kept: Tensor) -> Matrix:
        return DenseLinear(self.weight[kept], self._kept_bias(kept))

    def keep_inputs(self, kept: Tensor) -> Matrix:
        return DenseLinear(self.weight[:, kept], self.bias)

    def size_with(self, in_features: int, out_features: int) -> int:
        return in_features * out_features


class FactoredLinear(Matrix):
    """A matrix of rank ``rank``: ``B`` [rank, in], then what makes the outputs of it."""

    entry = "B"
    B: nn.Parameter

    @property
    def rank(self) -> int:
        """Rank-one components."""
        return self.B.shape[0]

    @property
    def input_cost(self) -> int:
        return self.rank

    @property
    def output_cost(self) -> int:
        return self.rank

    @abstractmethod
    def factors(self) -> tuple[Tensor, Tensor]:
        """A [out, rank] and B [rank, in] with A B = W."""

    @abstractmethod
    def _remade(self, a: Tensor, b: Tensor, bias: Optional[Tensor]) -> Matrix:
        """The product of two factors in this form."""

    def product(self) -> Tensor:
        a, b = self.factors()
        return a @ b

    def mapped(
        self, left: Optional[Tensor], right: Optional[Tensor], bias: Optional[Tensor]
    ) -> Matrix:
        a, b = self.factors()
        a, b = _times(a, left, None), _times(b, None, right)
        made = _like(bias, self.B)
        outputs, inputs = len(a), b.shape[1]
        if self.size_with(inputs, outputs) >= outputs * inputs:
            return DenseLinear(a @ b, made)
        return self._remade(a, b, made)

    def keep_outputs(self, kept: Tensor) -> Matrix:
        a, b = self.factors()
        return self._remade(a.detach()[kept], b.detach(), self._kept_bias(kept))

    def keep_inputs(self, kept: Tensor) -> Matrix:
        a, b = self.factors()
        return self._remade(a.detach(), b.detach()[:, kept], self.bias)


class LowRankLinear(FactoredLinear):
    """``y = (x B^T) A^T + b`` with A [out, rank] and B [rank, in]: the product A B stands for W.

    Component i is the outer product of column i of A and row i of B. ``used``: how many of them
    ``forward`` takes, the first ones; None: all.
    """

    def __init__(self, a: Tensor, b: Tensor, bias: Optional[Tensor]) -> None:
        super().__init__(b.shape[1], a.shape[0], bias)
        self.A = _parameter(a)
        self.B = _parameter(b)
        self.used: Optional[int] = None

    @classmethod
    def from_factors(cls, a: Tensor, b: Tensor, bias: Optional[Tensor]) -> LowRankLinear:
        """The product of a [out, k] and b [k, in], factors balanced."""
        return cls(*balance(a.detach(), b.detach()), bias)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.factors()
        if self.used is not None:
            a, b = a[:, : self.used], b[: self.used]
        inner = functional.linear(x, b)  # [..., rank]
        return functional.linear(inner, a, self.bias)  # [..., out]

    @property
    def shape(self) -> LinearShape:
        return LinearShape("low_rank", self.rank)

    @property
    def parts(self) -> Mapping[str, nn.Parameter]:
        return {"B": self.B, "A": self.A}

    def factors(self) -> tuple[Tensor, Tensor]:
        return self.A, self.B

    def _remade(self, a: Tensor, b: Tensor, bias: Optional[Tensor]) -> Matrix:
        return LowRankLinear.from_factors(a, b, bias)

    def size_with(self, in_features: int, out_features: int) -> int:
        return min(self.rank * (in_features + out_features), in_features * out_features)


class InterpolativeLinear(FactoredLinear):
    """A matrix of low rank by ``rank`` of its own rows: the others are combinations of these
    (interpolative decomposition).

    ``inner = x B^T``, ``y = [inner, inner C^T][order] + b`` with B [rank, in] the pivot rows and
    C [out - rank, rank]. It stores and multiplies ``rank (out + in - rank)`` weights, fewer than
    the dense matrix at every rank, and ``rank^2`` fewer than the two factors of LowRankLinear.
    """

    order: Tensor

    def __init__(
        self, rows: Tensor, combinations: Tensor, order: Tensor, bias: Optional[Tensor]
    ) -> None:
        super().__init__(rows.shape[1], len(order), bias)
        self.B = _parameter(rows)
        self.C = _parameter(combinations)
        self.register_buffer("order", order)

    @classmethod
    def from_factors(cls, a: Tensor, b: Tensor, bias: Optional[Tensor]) -> Matrix:
        """The product of a [out, k] and b [k, in]; dense where that is no larger: at a rank of
        ``min(out, in)`` or more."""
        if len(b) >= min(len(a), b.shape[1]):
            return DenseLinear(a @ b, bias)
        return cls(*interpolative(a.detach(), b.detach()), bias)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.linear(x, self.B)  # [..., rank]
        rest = functional.linear(inner, self.C)  # [..., out - rank]
        made = torch.cat([inner, rest], dim=-1)[..., self.order]  # [..., out]
        return made if self.bias is None else made + self.bias

    @property
    def shape(self) -> LinearShape:
        return LinearShape("pivoted", self.rank)

    @property
    def parts(self) -> Mapping[str, nn.Parameter]:
        return {"B": self.B, "C": self.C}

    @property
    def arrangement(self) -> Optional[Tensor]:
        return self.order

    def factors(self) -> tuple[Tensor, Tensor]:
        """A, in which the pivots' rows are those of the identity, and B."""
        identity = torch.eye(self.rank, dtype=self.C.dtype, device=self.C.device)
        return torch.cat([identity, self.C])[self.order], self.B

    def _remade(self, a: Tensor, b: Tensor, bias: Optional[Tensor]) -> Matrix:
        return InterpolativeLinear.from_factors(a, b, bias)

    def size_with(self, in_features: int, out_features: int) -> int:
        if self.rank >= min(in_features, out_features):
            return in_features * out_features
        return self.rank * (in_features + out_features - self.rank)


def fresh_matrix(in_features: int, out_features: int, shape: LinearShape, bias: bool) -> Matrix:
    """A matrix of the given stored form with drawn weights; the bias, if there is one, is zero."""
    zeros = torch.zeros(out_features) if bias else None
    if shape.kind == "dense":
        return DenseLinear(_drawn(out_features, in_features, std=0.02), zeros)
    if shape.kind not in ("low_rank", "pivoted"):
        raise ValueError(f"unknown kind of matrix {shape.kind!r}; known: dense, low_rank, pivoted")
    assert shape.rank is not None  # LinearShape checks it
    rank = shape.rank
    if shape.kind == "low_rank":
        spread = math.sqrt(0.02) / max(rank, 1) ** 0.25  # the product has about std 0.02
        a = _drawn(out_features, rank, std=spread)
        return LowRankLinear(a, _drawn(rank, in_features, std=spread), zeros)
    if rank > out_features:
        raise ValueError(f"rank is {rank}; expected at most {out_features}, the outputs")
    rows = _drawn(rank, in_features, std=0.02)
    combinations = _drawn(out_features - rank, rank, std=1.0 / math.sqrt(max(rank, 1)))
    return InterpolativeLinear(rows, combinations, torch.arange(out_features), zeros)


def draw(values: Tensor, std: float) -> Tensor:
    """``values`` themselves, filled with normal numbers; not those of the device meta, where the
    first call would load a second's worth of torch's modules for nothing."""
    return values if values.is_meta else nn.init.normal_(values, std=std)


def _drawn(rows: int, columns: int, std: float) -> Tensor:
    return draw(torch.empty(rows, columns), std)


def _parameter(values: Tensor) -> nn.Parameter:
    """Of its own memory, so that no two matrices change together."""
    return nn.Parameter(values.detach().clone(memory_format=torch.contiguous_format))


def _times(matrix: Tensor, left: Optional[Tensor], right: Optional[Tensor]) -> Tensor:
    result = matrix.detach().double()
    result = result if left is None else left @ result
    return (result if right is None else result @ right).to(matrix.dtype)


def _like(bias: Optional[Tensor], other: Tensor) -> Optional[Tensor]:
    return None if bias is None else bias.to(other.dtype)
