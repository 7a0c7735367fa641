"""The shape of a Transformer LM as it now is: every block may differ, every matrix too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

ATTENTION_LINEARS = ("attn.q", "attn.k", "attn.v", "attn.o")
FFN_LINEARS = ("ffn.up", "ffn.down")
BLOCK_LINEARS = ATTENTION_LINEARS + FFN_LINEARS
"""Names of a block's matrices, in the order in which a token passes them."""


@dataclass(frozen=True)
class LinearShape:
    """How one matrix is stored: ``dense``, or ``low_rank`` or ``pivoted`` with a rank."""

    kind: str = "dense"
    rank: Optional[int] = None

    def __post_init__(self) -> None:
        if (self.rank is None) != (self.kind == "dense"):
            raise ValueError(f"a {self.kind} matrix with rank {self.rank}")
        if self.rank is not None and self.rank < 0:
            raise ValueError(f"rank is {self.rank}; expected >= 0")


@dataclass(frozen=True)
class BlockShape:
    """One Transformer block: number of heads, FFN width, and the matrices that are not dense."""

    heads: int
    ffn: int
    linears: Mapping[str, LinearShape] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.heads < 0 or self.ffn < 0:
            raise ValueError(f"block with {self.heads} heads and FFN width {self.ffn}")
        for name in self.linears:
            if name not in BLOCK_LINEARS:
                raise ValueError(f"matrix {name!r}; known: {', '.join(BLOCK_LINEARS)}")

    def linear(self, name: str) -> LinearShape:
        """The stored form of matrix ``name``; dense unless stated otherwise."""
        return self.linears.get(name, LinearShape())


@dataclass(frozen=True)
class ModelShape:
    """Everything needed to rebuild the module; the defaults are the only defaults.

    ``head_dim`` is fixed when the model is made, so that removing heads changes ``heads`` alone.
    ``embedding_rank`` factors the tied embedding as [V, rank] x [rank, D]; None keeps it whole.
    """

    vocab_size: int
    d_model: int
    head_dim: int
    max_positions: int
    blocks: tuple[BlockShape, ...]
    dropout: float = 0.0
    embedding_rank: Optional[int] = None
    architecture: str = "gpt2"

    def __post_init__(self) -> None:
        for name in ("vocab_size", "d_model", "head_dim", "max_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected >= 1")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is {self.dropout}; expected 0 <= dropout < 1")

    @classmethod
    def uniform(
        cls,
        vocab_size: int,
        d_model: int = 256,
        n_layers: int = 4,
        n_heads: int = 4,
        ffn: Optional[int] = None,
        max_positions: int = 256,
        dropout: float = 0.0,
    ) -> ModelShape:
        """A dense model whose blocks are all alike; ``ffn`` defaults to 4 * d_model."""
        if n_heads < 1 or d_model % n_heads:
            raise ValueError(f"d_model {d_model} is not a multiple of n_heads {n_heads}")
        block = BlockShape(heads=n_heads, ffn=4 * d_model if ffn is None else ffn)
        head_dim = d_model // n_heads
        return cls(vocab_size, d_model, head_dim, max_positions, (block,) * n_layers, dropout)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``from_dict`` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ModelShape:
        """The shape from its JSON form. Raises ValueError, TypeError or KeyError on bad values."""
        fields = dict(value)
        fields["blocks"] = tuple(
            BlockShape(
                heads=block["heads"],
                ffn=block["ffn"],
                linears={k: LinearShape(**v) for k, v in block.get("linears", {}).items()},
            )
            for block in fields["blocks"]
        )
        return cls(**fields)
