"""Making matrices really smaller: neurons, heads and rank-one components leave the tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asrprune.lm.model.layers import AnyLinear, DenseLinear, LowRankLinear, PivotedLinear
from asrprune.lm.model.transformer import Block, TransformerLM
from asrprune.prune.surgery.factorisation import balance, pivoted


def keep_outputs(linear: AnyLinear, kept: Tensor) -> AnyLinear:
    """The linear with only the outputs ``kept`` (ascending indices), as a new module."""
    bias = linear.bias.detach()[kept]
    if isinstance(linear, DenseLinear):
        return dense_linear(linear.weight.detach()[kept], bias)
    a, b = linear.factors()
    return _like(linear, a.detach()[kept], b.detach(), bias)


def keep_inputs(linear: AnyLinear, kept: Tensor) -> AnyLinear:
    """The linear with only the inputs ``kept`` (ascending indices), as a new module."""
    bias = linear.bias.detach()
    if isinstance(linear, DenseLinear):
        return dense_linear(linear.weight.detach()[:, kept], bias)
    a, b = linear.factors()
    return _like(linear, a.detach(), b.detach()[:, kept], bias)


def _like(linear: AnyLinear, a: Tensor, b: Tensor, bias: Tensor) -> AnyLinear:
    """The product of the factors in the form of ``linear``."""
    if isinstance(linear, PivotedLinear):
        return pivoted_linear(a, b, bias)
    return low_rank_linear(a, b, bias)


def keep_neurons(block: Block, kept: Tensor) -> None:
    """Leave only the FFN neurons ``kept`` (ascending indices) in the block."""
    block.ffn.up = keep_outputs(block.ffn.up, kept)
    block.ffn.down = keep_inputs(block.ffn.down, kept)


def keep_heads(block: Block, kept: Tensor) -> None:
    """Leave only the attention heads ``kept`` (ascending indices) in the block."""
    attention = block.attn
    size = attention.head_dim
    rows = (kept[:, None] * size + torch.arange(size, device=kept.device)).flatten()
    for name in ("q", "k", "v"):
        setattr(attention, name, keep_outputs(getattr(attention, name), rows))
    attention.o = keep_inputs(attention.o, rows)
    attention.heads = len(kept)


def replace_linear(model: TransformerLM, index: int, name: str, linear: AnyLinear) -> None:
    """Put ``linear`` in the place of matrix ``name`` of block ``index``."""
    parent, _, child = name.rpartition(".")
    setattr(model.blocks[index].get_submodule(parent), child, linear)


def dense_linear(weight: Tensor, bias: Tensor) -> DenseLinear:
    """A dense matrix with these values (copied)."""
    out_features, in_features = weight.shape
    made = DenseLinear(0, 0)
    made.in_features, made.out_features = in_features, out_features
    made.weight = nn.Parameter(weight.detach().clone().contiguous())
    made.bias = nn.Parameter(bias.detach().clone())
    return made


def low_rank_linear(a: Tensor, b: Tensor, bias: Tensor) -> LowRankLinear:
    """A low-rank matrix with these components (copied, factors balanced)."""
    a, b = balance(a, b)
    made = LowRankLinear(0, 0, 0)
    made.in_features, made.out_features, made.rank = b.shape[1], a.shape[0], a.shape[1]
    made.A = nn.Parameter(a.detach().clone().contiguous())
    made.B = nn.Parameter(b.detach().clone().contiguous())
    made.bias = nn.Parameter(bias.detach().clone())
    return made


def pivoted_linear(a: Tensor, b: Tensor, bias: Tensor) -> AnyLinear:
    """The product of the factors a [out, k] and b [k, in] in pivoted form.

    It is dense where that is no larger: at a rank of ``min(out, in)`` or more.
    """
    out_features, rank = a.shape
    in_features = b.shape[1]
    if rank >= min(out_features, in_features):
        return dense_linear(a @ b, bias)
    rows, combinations, order = pivoted(a, b)
    made = PivotedLinear(0, 0, 0)
    made.in_features, made.out_features, made.rank = in_features, out_features, rank
    made.B = nn.Parameter(rows)
    made.C = nn.Parameter(combinations)
    made.order = order
    made.bias = nn.Parameter(bias.detach().clone())
    return made
