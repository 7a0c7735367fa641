"""Multi-head self-attention, each key and value head shared by as many query heads as one likes."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

from asrprune.lm.model.matrices import fresh_matrix
from asrprune.lm.model.shapes import BlockShape

KeyValue = tuple[Tensor, Tensor]
"""Keys and values of a block, each [B, G, S, K]: G key and value heads."""


class Attention(nn.Module):
    """``o(softmax(q k^T / sqrt(K)) v)``; ``heads`` may be 0 (then only the output bias remains).

    ``groups``: query heads of each key and value head, None: one each. ``biases``: whether q, k
    and v have one, and whether o has.
    """

    def __init__(
        self,
        d_model: int,
        head_dim: int,
        shape: BlockShape,
        dropout: float,
        biases: tuple[bool, bool] = (True, True),
    ) -> None:
        super().__init__()
        self.heads = shape.heads
        self.groups = shape.groups
        self.head_dim = head_dim
        self.dropout = dropout
        width, kept = shape.heads * head_dim, shape.kv_heads * head_dim
        self.q = fresh_matrix(d_model, width, shape.linear("attn.q"), biases[0])
        self.k = fresh_matrix(d_model, kept, shape.linear("attn.k"), biases[0])
        self.v = fresh_matrix(d_model, kept, shape.linear("attn.v"), biases[0])
        self.o = fresh_matrix(width, d_model, shape.linear("attn.o"), biases[1])

    @property
    def kv_heads(self) -> int:
        """Number of key and value heads."""
        return self.heads if self.groups is None else len(self.groups)

    @property
    def owners(self) -> Tensor:
        """The key and value head of each query head, [heads]."""
        sizes = self.groups or (1,) * self.heads
        every = torch.arange(len(sizes))
        return torch.repeat_interleave(every, torch.tensor(sizes, dtype=torch.long))

    def forward(
        self,
        x: Tensor,
        mask: Optional[Tensor],
        past: Optional[KeyValue],
        keys: Optional[Tensor] = None,
        rotation: Optional[tuple[Tensor, Tensor]] = None,
    ) -> tuple[Tensor, KeyValue]:
        """[B, T, D] to the same, and keys and values; arguments as in TransformerLM.

        ``rotation``: cosines and sines [B, T, K] that turn queries and keys. Stored keys are
        turned already.
        """
        query = self._split(self.q(x), self.heads)  # [B, H, T, K]
        key = self._split(self.k(x), self.kv_heads)  # [B, G, T, K]
        value = self._split(self.v(x), self.kv_heads)
        if rotation is not None:
            query, key = _turned(query, *rotation), _turned(key, *rotation)
        if keys is not None:
            key, value = (_gathered(part, keys) for part in (key, value))
        elif past is not None:
            key = torch.cat([past[0], key], dim=2)  # [B, G, S, K]
            value = torch.cat([past[1], value], dim=2)
        context = query  # [B, H, T, K]
        if self.heads:  # without a head, kernels of a GPU divide by zero
            dropout = self.dropout if self.training else 0.0
            context = _attended(query, self._shared(key), self._shared(value), mask, dropout)
        merged = context.transpose(1, 2).flatten(2)  # [B, T, H*K]
        out: Tensor = self.o(merged)
        return out, (key, value)

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.view(*x.shape[:-1], heads, self.head_dim).transpose(1, 2)  # [B, heads, T, K]

    def _shared(self, part: Tensor) -> Tensor:
        """Keys or values with a copy for each query head: [B, G, S, K] to [B, H, S, K]."""
        if self.groups is None:
            return part
        if len(set(self.groups)) == 1:
            return part.repeat_interleave(self.groups[0], dim=1)
        counts = torch.tensor(self.groups, dtype=torch.long, device=part.device)
        return part.repeat_interleave(counts, dim=1, output_size=self.heads)


def _attended(
    query: Tensor, key: Tensor, value: Tensor, mask: Optional[Tensor], dropout: float
) -> Tensor:
    """Attention [B, H, T, K] of as many keys and values; without a mask causal.

    Training in bf16 on a CPU computes it in float32: torch's backward pass of short sentences
    takes four times as long in bf16 (measured with torch 2.13 on a processor with AMX).
    """
    form = query.dtype
    slow = form == torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled()
    with torch.autocast("cpu", enabled=False) if slow else nullcontext():
        context = functional.scaled_dot_product_attention(
            query.float() if slow else query,
            key.float() if slow else key,
            value.float() if slow else value,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None,
        )
    return context.to(form)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """``x`` [B, H, T, K] with the pairs (i, i + K/2) turned by the angles of their positions."""
    first, second = x.chunk(2, dim=-1)
    crossed = torch.cat([-second, first], dim=-1)
    turned: Tensor = x * cos[:, None].to(x.dtype) + crossed * sin[:, None].to(x.dtype)
    return turned


def _gathered(part: Tensor, keys: Tensor) -> Tensor:
    """The places ``keys`` [B, S] (row * T + column) of all rows of ``part`` [B, G, T, K]."""
    return part.transpose(1, 2).flatten(0, 1)[keys].transpose(1, 2)  # [B, G, S, K]
