"""The residual stream in other coordinates: the same LM in another basis, or a narrower one.

A norm divides by the root mean square (a layer norm takes the mean away before), so turning the
stream changes nothing that is read from it once the norms' own weights are folded into the
matrices behind them. Of a layer norm's stream the mean of all channels is never read; the output
layer alone reads one, that of what the last norm puts out, and it stays the mean of the new
channels. So an LM can be written in any orthonormal basis of what is read, and be cut to the first
of its directions.

Source: Ashkboos et al. 2024 (SliceGPT, arXiv 2401.15024), section 3, which turns layer norms into
root-mean-square norms and gives each block a basis of its own; here all blocks share one, the norms
stay what they are, and a tied embedding stays tied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

import torch
from torch import Tensor, nn

from asrprune.lm.model.transformer import TransformerLM

NormPlace = tuple[int, str]
"""Block index and name of a norm."""


@dataclass(frozen=True)
class Cut:
    """How the stream [D] is written in k coordinates.

    ``basis`` [D, k]: x in new coordinates is x basis; with layer norms its columns are orthogonal
    to the vector of ones. ``readers``: for a norm the matrix [D, k] that makes what is read, x /
    rms(x), from the new coordinates (``basis`` by default). ``kept``: for a norm the mean share of
    the squared length that the coordinates hold (1 by default).
    """

    basis: Tensor
    readers: Mapping[NormPlace, Tensor] = field(default_factory=dict)
    kept: Mapping[NormPlace, float] = field(default_factory=dict)


def fold_norms(model: TransformerLM) -> None:
    """Move weight and bias of the norms into the matrices that read through them, in place.

    The last norm is folded only where the output layer has a table of its own: a tied one is read
    and written.
    """
    for block in model.layers():
        for name, readers in model.anatomy.readers.items():
            norm = block.get_submodule(name)
            scale = norm.weight.detach().double()  # type: ignore[operator]
            shift = getattr(norm, "bias", None)
            for reader in readers:
                linear = block.linear(reader)
                moved = linear.bias
                if shift is not None:  # W shift + b
                    moved = linear(shift.detach().to(linear.product().dtype)).detach()
                block.put(reader, linear.mapped(None, scale.diag(), moved))
            _reset(norm)
    output, last = model.embedding.output, model.norm
    if output is not None and getattr(last, "bias", None) is None:
        scale = last.weight.detach().double()  # type: ignore[operator]
        model.embedding.output = _parameter(output, scale.diag())
        _reset(last)


def read_directions(model: TransformerLM) -> Tensor:
    """An orthonormal basis [D, directions] float64 of what the norms let through: all of it, or
    with layer norms what is orthogonal to the vector of ones."""
    if model.anatomy.norm == "rms":
        return torch.eye(model.width, dtype=torch.float64)
    return ones_apart(model.width)


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

    With ``mean_free`` layer norms do not take away the mean, which is for looking at single
    coordinates; otherwise the coordinates of a model with layer norms must have mean zero:
    ``basis`` times a vector of ones is zero. The last norm's weights stay with it where the
    embedding is read and written by the same table: they become those weights of the new
    coordinates that are nearest, and a model whose last norm has equal weights loses nothing (with
    ``mean_free`` the mean of its biases, which adds to each token's logit what no input changes).
    """
    basis = cut.basis
    size, width = basis.shape
    for index, block in enumerate(model.layers()):
        for name, readers in model.anatomy.readers.items():
            right = cut.readers.get((index, name), basis)
            for reader in readers:
                linear = block.linear(reader)
                block.put(reader, linear.mapped(None, right, linear.bias))
            scale = (size * cut.kept.get((index, name), 1.0) / width) ** 0.5
            old = block.get_submodule(name)
            setattr(block, name, _norm(basis.new_full((width,), scale), None, old, mean_free))
        for writer in model.anatomy.writers:
            linear = block.linear(writer)
            bias = None if linear.bias is None else basis.T @ linear.bias.detach().double()
            block.put(writer, linear.mapped(basis.T, None, bias))
    embedding = model.embedding
    out = basis  # for what reads the last norm: with the mean of all channels, which norms drop
    if model.anatomy.norm != "rms" and not mean_free:
        out = basis + (size * width) ** -0.5
    tied = embedding.output is None
    if embedding.projection is None:
        embedding.weight = _parameter(embedding.weight, out if tied else basis)
    else:
        embedding.projection = _parameter(embedding.projection, out if tied else basis)
    if embedding.output is not None:
        embedding.output = _parameter(embedding.output, out)
    if model.positions is not None:
        model.positions = _parameter(model.positions, basis)
    last = model.norm
    squares = basis.square()
    old_weight = last.weight.detach().double()  # type: ignore[operator]
    weight = squares.T @ old_weight / squares.sum(0).clamp(min=1e-12)
    old_bias = getattr(last, "bias", None)
    shift = None if old_bias is None else out.T @ old_bias.detach().double()
    model.norm = _norm(weight * (size / width) ** 0.5, shift, last, mean_free)


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


def _norm(weight: Tensor, bias: Optional[Tensor], old: nn.Module, mean_free: bool) -> nn.Module:
    """A norm of the kind of ``old`` with these values."""
    before: Tensor = old.weight  # type: ignore[assignment]
    weight = weight.to(before.dtype)
    eps = float(old.eps)  # type: ignore[arg-type]
    made: nn.Module
    if isinstance(old, nn.RMSNorm):
        made = nn.RMSNorm(len(weight), eps=eps, device=weight.device, dtype=weight.dtype)
        made.weight = nn.Parameter(weight)
        return made
    shift = torch.zeros_like(weight) if bias is None else bias.to(before.dtype)
    if mean_free:
        return _MeanFreeNorm(weight, shift, eps)
    made = nn.LayerNorm(len(weight), eps=eps, device=weight.device, dtype=weight.dtype)
    made.weight = nn.Parameter(weight)
    made.bias = nn.Parameter(shift)
    return made


def _reset(norm: nn.Module) -> None:
    """Weights of one, and no shift."""
    with torch.no_grad():
        for name, parameter in norm.named_parameters():
            parameter.fill_(1.0 if name == "weight" else 0.0)


def _parameter(old: Tensor, basis: Tensor) -> nn.Parameter:
    return nn.Parameter((old.detach().double() @ basis).to(old.dtype).contiguous())
