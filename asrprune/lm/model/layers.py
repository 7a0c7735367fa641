"""The matrices of the Transformer in their stored forms: dense, low rank, and pivoted."""

from __future__ import annotations

import math
from typing import Union

import torch
from torch import Tensor, nn
from torch.nn import functional

from asrprune.lm.model.shapes import LinearShape


class DenseLinear(nn.Linear):
    """``y = x W^T + b`` with W [out, in]; either size may be 0."""

    @property
    def shape(self) -> LinearShape:
        return LinearShape("dense")

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)


class LowRankLinear(nn.Module):
    """``y = (x B^T) A^T + b`` with A [out, rank] and B [rank, in]: the product A B stands for W.

    Component i is the outer product of column i of A and row i of B.
    """

    def __init__(self, in_features: int, out_features: int, rank: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.rank = rank
        self.A = nn.Parameter(torch.empty(out_features, rank))
        self.B = nn.Parameter(torch.empty(rank, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        spread = math.sqrt(0.02) / max(rank, 1) ** 0.25  # the product has about std 0.02
        nn.init.normal_(self.A, std=spread)
        nn.init.normal_(self.B, std=spread)

    @property
    def shape(self) -> LinearShape:
        return LinearShape("low_rank", self.rank)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.linear(x, self.B)  # [..., rank]
        return functional.linear(inner, self.A, self.bias)  # [..., out]

    def factors(self) -> tuple[Tensor, Tensor]:
        """A [out, rank] and B [rank, in]."""
        return self.A, self.B

    def product(self) -> Tensor:
        """The matrix that the factors stand for, [out, in]."""
        return self.A @ self.B


class PivotedLinear(nn.Module):
    """A matrix of low rank by ``rank`` of its own rows: the others are combinations of these.

    ``inner = x B^T``, ``y = [inner, inner C^T][order] + b`` with B [rank, in] the pivot rows and
    C [out - rank, rank]. It stores and multiplies ``rank (out + in - rank)`` weights, fewer than
    the dense matrix at every rank, and ``rank^2`` fewer than the two factors of LowRankLinear.
    """

    order: Tensor

    def __init__(self, in_features: int, out_features: int, rank: int) -> None:
        super().__init__()
        if rank > out_features:
            raise ValueError(f"rank is {rank}; expected at most {out_features}, the outputs")
        self.in_features = in_features
        self.out_features = out_features
        self.rank = rank
        self.B = nn.Parameter(torch.empty(rank, in_features))
        self.C = nn.Parameter(torch.empty(out_features - rank, rank))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.register_buffer("order", torch.arange(out_features))
        nn.init.normal_(self.B, std=0.02)
        nn.init.normal_(self.C, std=1.0 / math.sqrt(max(rank, 1)))

    @property
    def shape(self) -> LinearShape:
        return LinearShape("pivoted", self.rank)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.linear(x, self.B)  # [..., rank]
        rest = functional.linear(inner, self.C)  # [..., out - rank]
        return torch.cat([inner, rest], dim=-1)[..., self.order] + self.bias  # [..., out]

    def factors(self) -> tuple[Tensor, Tensor]:
        """A [out, rank], in which the pivots' rows are those of the identity, and B [rank, in]."""
        identity = torch.eye(self.rank, dtype=self.C.dtype, device=self.C.device)
        return torch.cat([identity, self.C])[self.order], self.B

    def product(self) -> Tensor:
        """The matrix that this stands for, [out, in]."""
        a, b = self.factors()
        return a @ b


FactoredLinear = Union[LowRankLinear, PivotedLinear]
AnyLinear = Union[DenseLinear, LowRankLinear, PivotedLinear]


def make_linear(in_features: int, out_features: int, shape: LinearShape) -> AnyLinear:
    """A freshly initialised matrix of the given stored form."""
    if shape.kind == "dense":
        return DenseLinear(in_features, out_features)
    kinds: dict[str, type[FactoredLinear]] = {"low_rank": LowRankLinear, "pivoted": PivotedLinear}
    if shape.kind not in kinds:
        raise ValueError(f"unknown kind of matrix {shape.kind!r}; known: dense, low_rank, pivoted")
    assert shape.rank is not None  # LinearShape checks it
    return kinds[shape.kind](in_features, out_features, shape.rank)


class TiedEmbedding(nn.Module):
    """Token embedding that is also the output layer; counted once. Optionally factored.

    Whole: ``weight`` [V, D]. Factored: ``weight`` [V, rank] and ``projection`` [rank, D].
    """

    def __init__(self, vocab_size: int, d_model: int, rank: Union[int, None] = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, d_model if rank is None else rank))
        nn.init.normal_(self.weight, std=0.02)
        if rank is None:
            self.projection = None
        else:
            self.projection = nn.Parameter(torch.empty(rank, d_model))
            nn.init.normal_(self.projection, std=1.0 / math.sqrt(max(rank, 1)))

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = functional.embedding(tokens, self.weight)  # [..., D or rank]
        return vectors if self.projection is None else vectors @ self.projection  # [..., D]

    def features(self, hidden: Tensor) -> Tensor:
        """What the rows of ``weight`` are multiplied with: [..., D] to [..., D or rank]."""
        if self.projection is None:
            return hidden
        return functional.linear(hidden, self.projection)

    def logits(self, hidden: Tensor) -> Tensor:
        """Unnormalised log-probabilities of the next token, [..., D] to [..., V]."""
        return functional.linear(self.features(hidden), self.weight)
