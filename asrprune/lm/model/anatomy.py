"""Anatomy: which matrices a block has and what connects them, as data.

Methods of pruning, criteria and engines ask this and never which class a block is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Optional

from torch import Tensor, nn

from asrprune.lm.model.attention import Attention, KeyValue
from asrprune.lm.model.matrices import Matrix
from asrprune.lm.model.shapes import BlockShape, ModelShape

NORMS = ("layer", "rms")
POSITIONS = ("learned", "rotary")
ACTIVATIONS = ("gelu-tanh", "silu-gated")


@dataclass(frozen=True)
class Coupling:
    """Matrices whose units leave together.

    A unit is one output of each of ``makers`` and one input of ``reader``: an FFN neuron, or with
    ``heads`` a head's ``head_dim`` of them (of a key and value head that several query heads
    share: its own, and theirs). ``source`` is the maker whose outputs the reader multiplies.
    """

    makers: tuple[str, ...]
    reader: str
    source: str
    heads: bool

    @property
    def matrices(self) -> tuple[str, ...]:
        """All of them, in the order in which a token passes them."""
        return (*self.makers, self.reader)


@dataclass(frozen=True)
class Anatomy:
    """What stands in a block.

    ``readers``: name of a norm -> the matrices that read the residual stream through it; the
    couplings' readers write the stream. ``norm``, ``positions`` and ``activation`` say what is
    computed (NORMS, POSITIONS, ACTIVATIONS), for what computes it without torch.
    """

    attention: Coupling
    ffn: Coupling
    readers: Mapping[str, tuple[str, ...]]
    norm: str
    positions: str
    activation: str

    def __post_init__(self) -> None:
        for value, known in (
            (self.norm, NORMS),
            (self.positions, POSITIONS),
            (self.activation, ACTIVATIONS),
        ):
            if value not in known:
                raise ValueError(f"{value!r}; known: {', '.join(known)}")
        read = [name for names in self.readers.values() for name in names]
        if sorted([*read, *self.writers]) != sorted(self.matrices):
            raise ValueError("a matrix neither reads the stream through one norm nor writes it")

    @property
    def couplings(self) -> tuple[Coupling, Coupling]:
        """Attention's and the FFN's."""
        return self.attention, self.ffn

    @property
    def matrices(self) -> tuple[str, ...]:
        """Names of a block's matrices, in the order in which a token passes them."""
        return (*self.attention.matrices, *self.ffn.matrices)

    @property
    def writers(self) -> tuple[str, ...]:
        """The matrices that write the residual stream."""
        return self.attention.reader, self.ffn.reader


class Rotation(NamedTuple):
    """Cosines and sines of the angles by which positions turn queries and keys, [B, T, K]."""

    cos: Tensor
    sin: Tensor


class Block(nn.Module):
    """``x + attn(norm_attn(x))``, then ``x + ffn(norm_ffn(x))``."""

    def __init__(
        self,
        anatomy: Anatomy,
        attn: Attention,
        ffn: nn.Module,
        norms: tuple[nn.Module, nn.Module],
        dropout: float,
    ) -> None:
        super().__init__()
        self.anatomy = anatomy
        self.norm_attn = norms[0]
        self.attn = attn
        self.norm_ffn = norms[1]
        self.ffn = ffn
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Optional[Tensor],
        past: Optional[KeyValue],
        keys: Optional[Tensor],
        rotation: Optional[Rotation],
    ) -> tuple[Tensor, KeyValue]:
        """The stream behind the block [B, T, D], and its keys and values; see TransformerLM."""
        attended, present = self.attn(self.norm_attn(x), mask, past, keys, rotation)
        x = x + self.drop(attended)
        return x + self.drop(self.ffn(self.norm_ffn(x))), present

    def linear(self, name: str) -> Matrix:
        """The matrix called ``name`` (one of ``anatomy.matrices``)."""
        module: Matrix = self.get_submodule(name)  # type: ignore[assignment]
        return module

    def put(self, name: str, matrix: Matrix) -> None:
        """Put ``matrix`` in the place of the one called ``name``."""
        parent, _, child = name.rpartition(".")
        setattr(self.get_submodule(parent), child, matrix)

    @property
    def shape(self) -> BlockShape:
        """The shape that the block has now."""
        forms = {name: self.linear(name).shape for name in self.anatomy.matrices}
        return BlockShape(
            heads=self.attn.heads,
            ffn=self.linear(self.anatomy.ffn.source).out_features,
            linears={name: form for name, form in forms.items() if form.kind != "dense"},
            groups=self.attn.groups,
        )


@dataclass(frozen=True)
class Architecture:
    """A kind of Transformer: its anatomy and how its parts are made.

    ``block(shape, block shape, details)`` and ``norm(width, details)`` (the last one) make the
    modules, with drawn weights; ``details`` is the dataclass of its own settings and
    ``ffn(d_model)`` the FFN width where none is stated. Rotary positions need
    ``rotation(positions [B, T], head_dim, details)``.
    """

    description: str
    anatomy: Anatomy
    details: type[Any]
    block: Callable[[ModelShape, BlockShape, Any], Block]
    norm: Callable[[int, Any], nn.Module]
    ffn: Callable[[int], int]
    rotation: Optional[Callable[[Tensor, int, Any], Rotation]] = None
