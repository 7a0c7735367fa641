"""Decoder-only Transformer LM of any architecture, with shapes that are free in every block.

Letters in shape comments: B batch, T tokens, D model width, H heads, G key and value heads, K width
of a head, V vocabulary, S key positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from asrprune.lm.model.anatomy import Anatomy, Block, Rotation
from asrprune.lm.model.architecture import architecture_of, check_shape, details_of
from asrprune.lm.model.attention import KeyValue
from asrprune.lm.model.layers import TokenEmbedding
from asrprune.lm.model.matrices import Matrix, draw
from asrprune.lm.model.shapes import ModelShape, Place

KeyValues = list[KeyValue]
"""Keys and values of every block."""


class TransformerLM(nn.Module):
    """The language model. Input token 0 of a sentence is ``<s>``, at position 0.

    ``positions`` [max_positions, D] are learned vectors, None for rotary positions.
    ``checkpoint_activations``: where gradients are wanted, what stands inside a block is not kept
    for them but made again: less memory for more time (1.2 times, measured).
    Raises ValueError for an architecture, matrix or setting that there is not.
    """

    positions: Optional[nn.Parameter]

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        check_shape(shape)
        architecture, details = architecture_of(shape), details_of(shape)
        self.embedding = TokenEmbedding(
            shape.vocab_size, shape.d_model, shape.embedding_rank, shape.tied
        )
        self.register_parameter("positions", None)
        if architecture.rotation is None:
            self.positions = nn.Parameter(torch.empty(shape.max_positions, shape.d_model))
            draw(self.positions, std=0.01)
        self.drop = nn.Dropout(shape.dropout)
        self.blocks = nn.ModuleList(
            architecture.block(shape, block, details) for block in shape.blocks
        )
        self.norm = architecture.norm(shape.d_model, details)
        self._made_as = shape
        self._rotation = architecture.rotation
        self._details = details
        self.anatomy: Anatomy = architecture.anatomy
        self.checkpoint_activations = False
        self._scale_residual_outputs()

    def _scale_residual_outputs(self) -> None:
        """GPT-2's initialisation: outputs that add to the residual shrink with the depth."""
        scale = (2 * max(len(self.blocks), 1)) ** -0.5
        with torch.no_grad():
            for place, matrix in self.linears():
                if place.name in self.anatomy.writers:
                    next(iter(matrix.parts.values())).mul_(scale)

    @property
    def shape(self) -> ModelShape:
        """The shape that the model has now, after any surgery on its blocks."""
        made = self._made_as
        projection = self.embedding.projection
        return ModelShape(
            vocab_size=self.embedding.vocab_size,
            d_model=self.width,
            head_dim=made.head_dim,
            max_positions=self.max_positions,
            blocks=tuple(block.shape for block in self.layers()),
            dropout=made.dropout,
            embedding_rank=None if projection is None else projection.shape[0],
            architecture=made.architecture,
            tied=self.embedding.tied,
            details=made.details,
        )

    @property
    def width(self) -> int:
        """D, the width of the residual stream."""
        return self.norm.weight.numel()  # type: ignore[operator, union-attr, no-any-return]

    @property
    def max_positions(self) -> int:
        """Most tokens of a sentence, ``<s>`` counted."""
        return self._made_as.max_positions

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the parameters."""
        return self.embedding.weight.dtype

    def layers(self) -> list[Block]:
        """The blocks, first to last."""
        return list(self.blocks)  # type: ignore[arg-type]

    def linears(self) -> Iterator[tuple[Place, Matrix]]:
        """``(place, matrix)`` for every matrix of every block."""
        for index, block in enumerate(self.layers()):
            for name in self.anatomy.matrices:
                yield Place(index, name), block.linear(name)

    def put(self, place: Place, matrix: Matrix) -> None:
        """Put ``matrix`` in the place of another."""
        self.layers()[place.block].put(place.name, matrix)

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
        each row attend to places of all rows, row * T + column (-1 to none: to be masked). A pass
        that ``checkpoint_activations`` concerns gives no keys and values.

        Raises ValueError when a position is beyond ``max_positions``.
        """
        if past is not None and mask is None:
            raise ValueError("stored keys and values need an explicit mask")
        if keys is not None and (mask is None or past is not None):
            raise ValueError("keys of other rows need a mask, and no stored keys and values")
        if positions is None and tokens.shape[1] > self.max_positions:
            limit = self.max_positions
            raise ValueError(f"{tokens.shape[1]} tokens; the model has {limit} positions")
        x, rotation = self.embedding(tokens), None  # [B, T, D]
        if self._rotation is not None:
            if positions is None:
                positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
            rotation = self._rotation(positions, self._made_as.head_dim, self._details)
        else:
            assert self.positions is not None
            if positions is None:
                x = x + self.positions[: tokens.shape[1]]
            else:
                x = x + functional.embedding(positions, self.positions)
        x = self.drop(x)
        presents: KeyValues = []
        plain = past is None and keys is None
        if self.checkpoint_activations and torch.is_grad_enabled() and plain:
            for layer in self.layers():
                x = _made_again(layer, x, mask, rotation)
            return self.norm(x), presents
        for index, block in enumerate(self.blocks):
            before = None if past is None else past[index]
            x, present = block(x, mask, before, keys, rotation)
            presents.append(present)
        return self.norm(x), presents

    def logits(self, hidden: Tensor) -> Tensor:
        """Unnormalised log-probabilities of the next token, [..., D] to [..., V]."""
        return self.embedding.logits(hidden)


def _made_again(
    block: Block, x: Tensor, mask: Optional[Tensor], rotation: Optional[Rotation]
) -> Tensor:
    """What stands behind the block [B, T, D]; the backward pass computes the block once more."""

    def stream(x: Tensor) -> Tensor:
        return block(x, mask, None, None, rotation)[0]  # type: ignore[no-any-return]

    noise = block.training and block.drop.p > 0.0
    made: Tensor = checkpoint(stream, x, use_reentrant=False, preserve_rng_state=noise)
    return made


def count_parameters(model: nn.Module) -> int:
    """Number of parameters; shared ones count once, zeros count."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_nonzero(model: nn.Module) -> int:
    """Number of parameters that are not zero; shared ones count once."""
    return sum(int(torch.count_nonzero(parameter)) for parameter in model.parameters())
