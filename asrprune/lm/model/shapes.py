"""The shape of a Transformer LM as it now is: every block may differ, every matrix too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Optional

from asrprune.core.config import from_values

MOST_BLOCKS = 1000
"""Blocks of a new model."""


class Place(NamedTuple):
    """Which matrix of a model: ``Place(0, "ffn.up")``, as text ``0.ffn.up``."""

    block: int
    name: str

    def __str__(self) -> str:
        return f"{self.block}.{self.name}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """The place from its text form.

        >>> Place.parse("0.ffn.up")
        Place(block=0, name='ffn.up')
        """
        block, _, name = text.partition(".")
        return cls(int(block), name)


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
    """One Transformer block: number of heads, FFN width, and the matrices that are not dense.

    ``groups``: how many of the (query) heads share each key and value head, in order (grouped-query
    attention); None: every head has its own.
    """

    heads: int
    ffn: int
    linears: Mapping[str, LinearShape] = field(default_factory=dict)
    groups: Optional[tuple[int, ...]] = None

    def __post_init__(self) -> None:
        if self.heads < 0 or self.ffn < 0:
            raise ValueError(f"block with {self.heads} heads and FFN width {self.ffn}")
        if self.groups is not None and (sum(self.groups) != self.heads or 0 in self.groups):
            raise ValueError(f"groups {list(self.groups)} of {self.heads} heads")

    def linear(self, name: str) -> LinearShape:
        """The stored form of matrix ``name``; dense unless stated otherwise."""
        return self.linears.get(name, LinearShape())

    @property
    def kv_heads(self) -> int:
        """Number of key and value heads."""
        return self.heads if self.groups is None else len(self.groups)


@dataclass(frozen=True)
class ModelShape:
    """Everything needed to rebuild the module; the defaults are the only defaults.

    ``head_dim`` is fixed when the model is made, so that removing heads changes ``heads`` alone.
    ``embedding_rank`` factors the tied embedding as [V, rank] x [rank, D]; None keeps it whole.
    ``tied``: the embedding is the output layer too. ``details`` are the architecture's own
    settings (model/architecture.py), those that differ from its defaults.
    """

    vocab_size: int
    d_model: int
    head_dim: int
    max_positions: int
    blocks: tuple[BlockShape, ...]
    dropout: float = 0.0
    embedding_rank: Optional[int] = None
    architecture: str = "gpt2"
    tied: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("vocab_size", "d_model", "head_dim", "max_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected >= 1")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is {self.dropout}; expected 0 <= dropout < 1")
        if self.embedding_rank is not None and not self.tied:
            raise ValueError("embedding_rank is given; expected none, as the output is not tied")

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
        *,
        architecture: str = "gpt2",
        kv_heads: Optional[int] = None,
        head_dim: Optional[int] = None,
        tied: bool = True,
        details: Optional[Mapping[str, Any]] = None,
    ) -> ModelShape:
        """A dense model whose blocks are all alike; ``ffn`` defaults to 4 * d_model.

        ``kv_heads`` key and value heads, each for as many of the ``n_heads`` (None: one each).
        """
        if not 0 <= n_layers <= MOST_BLOCKS:
            raise ValueError(f"n_layers is {n_layers}; expected 0 to {MOST_BLOCKS}")
        if n_heads < 1 or (head_dim is None and d_model % n_heads):
            raise ValueError(f"d_model {d_model} is not a multiple of n_heads {n_heads}")
        groups = None
        if kv_heads is not None and kv_heads != n_heads:
            if kv_heads < 1 or n_heads % kv_heads:
                raise ValueError(f"n_heads {n_heads} is not a multiple of kv_heads {kv_heads}")
            groups = (n_heads // kv_heads,) * kv_heads
        block = BlockShape(n_heads, 4 * d_model if ffn is None else ffn, groups=groups)
        return cls(
            vocab_size,
            d_model,
            d_model // n_heads if head_dim is None else head_dim,
            max_positions,
            (block,) * n_layers,
            dropout,
            architecture=architecture,
            tied=tied,
            details=dict(details or {}),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``from_dict`` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ModelShape:
        """The shape from its JSON form. Raises ValueError for bad values."""
        blocks = value.get("blocks") if isinstance(value, Mapping) else None
        if isinstance(blocks, list) and len(blocks) > MOST_BLOCKS:
            raise ValueError(f"{len(blocks)} blocks; expected {MOST_BLOCKS} at most")
        return from_values(cls, value)
