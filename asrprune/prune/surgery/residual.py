"""The residual stream in other coordinates: the same LM in another basis, or a narrower one.

A layer norm takes the mean away and divides by the root mean square, so a direction of the stream
that is the mean of all channels is never read, and turning the stream changes nothing that is
read from it once the norms' own weights are folded into the matrices behind them. So an LM can be
written in any orthonormal basis of the other directions, and be cut to the first of them.

Source: Ashkboos et al. 2024 (SliceGPT, arXiv 2401.15024), section 3, which turns layer norms into
root-mean-square norms and gives each block a basis of its own; here all blocks share one, the norms
stay layer norms, and the embedding stays tied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from asrprune.lm.model.layers import AnyLinear, DenseLinear, PivotedLinear
from asrprune.lm.model.transformer import Block, TransformerLM
from asrprune.prune.surgery.compaction import (
    dense_linear,
    low_rank_linear,
    pivoted_linear,
    replace_linear,
)

NORMS = ("norm_attn", "norm_ffn")
READERS: Mapping[str, tuple[str, ...]] = {
    "norm_attn": ("attn.q", "attn.k", "attn.v"),
    "norm_ffn": ("ffn.up",),
}
"""Norm of a block -> the matrices that read the stream through it."""
WRITERS = ("attn.o", "ffn.down")

Place = tuple[int, str]
"""Block index and name of a norm."""


@dataclass(frozen=True)
class Cut:
    """How the stream [D] is written in k coordinates.

    ``basis`` [D, k]: x in new coordinates is x basis; its columns are orthogonal to the vector of
    ones. ``readers``: for a norm the matrix [D, k] that makes what is read, x / rms(x), from the
    new coordinates (``basis`` by default). ``kept``: for a norm the mean share of the squared
    length that the coordinates hold (1 by default).
    """

    basis: Tensor
    readers: Mapping[Place, Tensor] = field(default_factory=dict)
    kept: Mapping[Place, float] = field(default_factory=dict)


def fold_norms(model: TransformerLM) -> None:
    """Move weight and bias of the blocks' norms into the matrices that read them, in place."""
    for index, block in _blocks(model):
        for name in NORMS:
            norm: nn.LayerNorm = getattr(block, name)
            scale, shift = norm.weight.detach().double(), norm.bias.detach().double()
            for reader in READERS[name]:
                linear = block.linear(reader)
                moved = linear(shift.to(linear.bias.dtype)).detach()  # W shift + b
                replace_linear(model, index, reader, _mapped(linear, None, scale.diag(), moved))
            with torch.no_grad():
                norm.weight.fill_(1.0)
                norm.bias.zero_()


def ones_apart(size: int) -> Tensor:
    """An orthonormal basis of what is orthogonal to the vector of ones: [size, size - 1] float64.

    All columns but the last of the reflection that turns the last unit vector into that of ones:
    as near to unit vectors as such a basis gets, so that what is diagonal in its coordinates is
    nearly so in those of the channels.
    """
    normal = torch.full((size,), -(size**-0.5), dtype=torch.float64)
    normal[-1] += 1.0
    squares = float(normal @ normal)
    identity = torch.eye(size, dtype=torch.float64)
    if squares == 0.0:  # one channel
        return identity[:, :-1]
    return (identity - 2.0 / squares * torch.outer(normal, normal))[:, :-1]


def rewrite(model: TransformerLM, cut: Cut, mean_free: bool) -> None:
    """Write a model with folded norms in the coordinates of ``cut``, in place.

    With ``mean_free`` its norms do not take away the mean, which is for looking at single
    coordinates; otherwise they are layer norms, for which the coordinates must have mean zero:
    ``basis`` times a vector of ones is zero. The last norm's weights stay with it, as the
    embedding is read and written by the same table: they become those weights of the new
    coordinates that are nearest, and a model whose last norm has equal weights loses nothing.
    """
    basis = cut.basis
    size, width = basis.shape
    for index, block in _blocks(model):
        for name in NORMS:
            for reader in READERS[name]:
                linear = block.linear(reader)
                right = cut.readers.get((index, name), basis)
                replace_linear(model, index, reader, _mapped(linear, None, right, linear.bias))
            scale = (size * cut.kept.get((index, name), 1.0) / width) ** 0.5
            setattr(block, name, _norm(basis.new_full((width,), scale), None, model, mean_free))
        for writer in WRITERS:
            linear = block.linear(writer)
            bias = basis.T @ linear.bias.detach().double()
            replace_linear(model, index, writer, _mapped(linear, basis.T, None, bias))
    embedding = model.embedding
    if embedding.projection is None:
        embedding.weight = _parameter(embedding.weight, basis)
    else:
        embedding.projection = _parameter(embedding.projection, basis)
    model.positions = _parameter(model.positions, basis)
    last = model.norm
    squares = basis.square()
    weight = squares.T @ last.weight.detach().double() / squares.sum(0).clamp(min=1e-12)
    weight = weight * (size / width) ** 0.5
    model.norm = _norm(weight, basis.T @ last.bias.detach().double(), model, mean_free)


class _MeanFreeNorm(nn.Module):
    """``x / rms(x) * weight + bias``: a layer norm of what has mean zero."""

    def __init__(self, weight: Tensor, bias: Tensor, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        size = x.square().mean(-1, keepdim=True) + self.eps
        return x * size.rsqrt() * self.weight + self.bias


def _norm(
    weight: Tensor, bias: Tensor | None, model: TransformerLM, mean_free: bool
) -> nn.LayerNorm:
    old = model.norm
    dtype = model.positions.dtype
    weight = weight.to(dtype)
    shift = torch.zeros_like(weight) if bias is None else bias.to(dtype)
    if mean_free:
        return _MeanFreeNorm(weight, shift, old.eps)  # type: ignore[return-value]
    made = nn.LayerNorm(len(weight), eps=old.eps, device=weight.device, dtype=dtype)
    made.weight = nn.Parameter(weight)
    made.bias = nn.Parameter(shift)
    return made


def _mapped(
    linear: AnyLinear, left: Tensor | None, right: Tensor | None, bias: Tensor
) -> AnyLinear:
    """``left W right`` in the stored form of ``linear``, or dense where that is no larger."""
    dtype = linear.bias.dtype

    def times(matrix: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor:
        result = matrix.detach().double()
        result = result if before is None else before @ result
        return (result if after is None else result @ after).to(dtype)

    bias = bias.to(dtype)
    if isinstance(linear, DenseLinear):
        return dense_linear(times(linear.weight, left, right), bias)
    a, b = linear.factors()
    a, b = times(a, left, None), times(b, None, right)
    if isinstance(linear, PivotedLinear):
        return pivoted_linear(a, b, bias)
    (outputs, rank), inputs = a.shape, b.shape[1]
    if rank * (outputs + inputs) >= outputs * inputs:
        return dense_linear(a @ b, bias)
    return low_rank_linear(a, b, bias)


def _parameter(old: Tensor, basis: Tensor) -> nn.Parameter:
    return nn.Parameter((old.detach().double() @ basis).to(old.dtype).contiguous())


def _blocks(model: TransformerLM) -> Iterator[tuple[int, Block]]:
    for index, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        yield index, block
