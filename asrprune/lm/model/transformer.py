"""Decoder-only Transformer LM: GPT-2's architecture with shapes that are free in every block.

Pre-layer-norm, learned positions, GELU (tanh form), biases, tied embedding: with all blocks alike
it computes what ``transformers.GPT2LMHeadModel`` computes (a test copies the weights over).
Letters in shape comments: B batch, T tokens, D model width, H heads, K width of a head, V
vocabulary, S key positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

from asrprune.lm.model.layers import AnyLinear, DenseLinear, TiedEmbedding, make_linear
from asrprune.lm.model.shapes import BLOCK_LINEARS, BlockShape, ModelShape

KeyValues = list[tuple[Tensor, Tensor]]
"""Keys and values of every block, each [B, H, S, K]."""


class Attention(nn.Module):
    """Multi-head self-attention; ``heads`` may be 0 (then only the output bias remains)."""

    def __init__(self, d_model: int, head_dim: int, shape: BlockShape, dropout: float) -> None:
        super().__init__()
        self.heads = shape.heads
        self.head_dim = head_dim
        self.dropout = dropout
        width = shape.heads * head_dim
        self.q = make_linear(d_model, width, shape.linear("attn.q"))
        self.k = make_linear(d_model, width, shape.linear("attn.k"))
        self.v = make_linear(d_model, width, shape.linear("attn.v"))
        self.o = make_linear(width, d_model, shape.linear("attn.o"))

    def forward(
        self,
        x: Tensor,
        mask: Optional[Tensor],
        past: Optional[tuple[Tensor, Tensor]],
        keys: Optional[Tensor] = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        query, key, value = (self._split(linear(x)) for linear in (self.q, self.k, self.v))
        if keys is not None:
            key, value = (_gathered(part, keys) for part in (key, value))
        elif past is not None:
            key = torch.cat([past[0], key], dim=2)  # [B, H, S, K]
            value = torch.cat([past[1], value], dim=2)
        context = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=mask is None,
        )  # [B, H, T, K]
        merged = context.transpose(1, 2).flatten(2)  # [B, T, H*K]
        out: Tensor = self.o(merged)
        return out, (key, value)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, self.head_dim).transpose(1, 2)  # [B, H, T, K]


def _gathered(part: Tensor, keys: Tensor) -> Tensor:
    """The places ``keys`` [B, S] (row * T + column) of all rows of ``part`` [B, H, T, K]."""
    return part.transpose(1, 2).flatten(0, 1)[keys].transpose(1, 2)  # [B, H, S, K]


class FeedForward(nn.Module):
    """``down(gelu(up(x)))``; the width may be 0 (then only the output bias remains)."""

    def __init__(self, d_model: int, shape: BlockShape) -> None:
        super().__init__()
        self.up = make_linear(d_model, shape.ffn, shape.linear("ffn.up"))
        self.down = make_linear(shape.ffn, d_model, shape.linear("ffn.down"))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(functional.gelu(self.up(x), approximate="tanh"))
        return out


class Block(nn.Module):
    """``x + attn(norm(x))``, then ``x + ffn(norm(x))``."""

    def __init__(self, d_model: int, head_dim: int, shape: BlockShape, dropout: float) -> None:
        super().__init__()
        self.norm_attn = nn.LayerNorm(d_model)
        self.attn = Attention(d_model, head_dim, shape, dropout)
        self.norm_ffn = nn.LayerNorm(d_model)
        self.ffn = FeedForward(d_model, shape)
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Optional[Tensor],
        past: Optional[tuple[Tensor, Tensor]],
        keys: Optional[Tensor] = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        attended, present = self.attn(self.norm_attn(x), mask, past, keys)
        x = x + self.drop(attended)
        return x + self.drop(self.ffn(self.norm_ffn(x))), present

    def linear(self, name: str) -> AnyLinear:
        """The matrix called ``name`` (one of BLOCK_LINEARS)."""
        module: AnyLinear = self.get_submodule(name)  # type: ignore[assignment]
        return module

    @property
    def shape(self) -> BlockShape:
        """The shape that the block has now."""
        forms = {name: self.linear(name).shape for name in BLOCK_LINEARS}
        return BlockShape(
            heads=self.attn.heads,
            ffn=self.ffn.up.out_features,
            linears={name: form for name, form in forms.items() if form.kind != "dense"},
        )


class TransformerLM(nn.Module):
    """The language model. Input token 0 of a sentence is ``<s>``, at position 0."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.embedding = TiedEmbedding(shape.vocab_size, shape.d_model, shape.embedding_rank)
        self.positions = nn.Parameter(torch.empty(shape.max_positions, shape.d_model))
        nn.init.normal_(self.positions, std=0.01)
        self.drop = nn.Dropout(shape.dropout)
        self.blocks = nn.ModuleList(
            Block(shape.d_model, shape.head_dim, block, shape.dropout) for block in shape.blocks
        )
        self.norm = nn.LayerNorm(shape.d_model)
        self._made_as = shape
        self._scale_residual_outputs()

    def _scale_residual_outputs(self) -> None:
        """GPT-2's initialisation: outputs that add to the residual shrink with the depth."""
        scale = (2 * max(len(self.blocks), 1)) ** -0.5
        with torch.no_grad():
            for _, name, linear in self.linears():
                if name in ("attn.o", "ffn.down"):
                    factor = linear.weight if isinstance(linear, DenseLinear) else linear.B
                    factor.mul_(scale)

    @property
    def shape(self) -> ModelShape:
        """The shape that the model has now, after any surgery on its blocks."""
        made = self._made_as
        projection = self.embedding.projection
        return ModelShape(
            vocab_size=self.embedding.weight.shape[0],
            d_model=self.positions.shape[1],
            head_dim=made.head_dim,
            max_positions=self.positions.shape[0],
            blocks=tuple(block.shape for block in self._blocks()),
            dropout=made.dropout,
            embedding_rank=None if projection is None else projection.shape[0],
        )

    def linears(self) -> Iterator[tuple[int, str, AnyLinear]]:
        """``(block index, matrix name, matrix)`` for every matrix of every block."""
        for index, block in enumerate(self._blocks()):
            for name in BLOCK_LINEARS:
                yield index, name, block.linear(name)

    def _blocks(self) -> list[Block]:
        return list(self.blocks)  # type: ignore[arg-type]

    def forward(
        self,
        tokens: Tensor,
        positions: Optional[Tensor] = None,
        mask: Optional[Tensor] = None,
        past: Optional[KeyValues] = None,
        keys: Optional[Tensor] = None,
    ) -> tuple[Tensor, KeyValues]:
        """Hidden states after the last norm [B, T, D], and the keys and values of every block.

        ``tokens`` [B, T] int64. ``positions`` [B, T] defaults to 0..T-1. ``mask`` is boolean,
        True = may attend, broadcastable to [B, H, T, S] with S = stored + T; None means causal
        and needs ``past`` to be None. Padding needs no mask when it stands on the right and the
        caller ignores its outputs. ``keys`` [B, S] int64, with a mask and without ``past``, lets
        each row attend to places of all rows, row * T + column (-1 to none: to be masked).

        Raises ValueError when a position is beyond ``max_positions``.
        """
        if past is not None and mask is None:
            raise ValueError("stored keys and values need an explicit mask")
        if keys is not None and (mask is None or past is not None):
            raise ValueError("keys of other rows need a mask, and no stored keys and values")
        if positions is None:
            if tokens.shape[1] > self.positions.shape[0]:
                limit = self.positions.shape[0]
                raise ValueError(f"{tokens.shape[1]} tokens; the model has {limit} positions")
            where = self.positions[: tokens.shape[1]]  # [T, D]
        else:
            where = functional.embedding(positions, self.positions)  # [B, T, D]
        x = self.drop(self.embedding(tokens) + where)  # [B, T, D]
        presents: KeyValues = []
        for index, block in enumerate(self.blocks):
            x, present = block(x, mask, None if past is None else past[index], keys)
            presents.append(present)
        return self.norm(x), presents

    def logits(self, hidden: Tensor) -> Tensor:
        """Unnormalised log-probabilities of the next token, [..., D] to [..., V]."""
        return self.embedding.logits(hidden)


def count_parameters(model: nn.Module) -> int:
    """Number of parameters; shared ones count once, zeros count."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_nonzero(model: nn.Module) -> int:
    """Number of parameters that are not zero; shared ones count once."""
    return sum(int(torch.count_nonzero(parameter)) for parameter in model.parameters())
