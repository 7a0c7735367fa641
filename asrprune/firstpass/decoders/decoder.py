"""What a first-pass decoder is: a configuration that opens it, one utterance in, its lists out."""

from __future__ import annotations

from dataclasses import Field, dataclass
from typing import Any, ClassVar, Optional, Protocol

import numpy as np
from numpy.typing import NDArray

from asrprune.core.hypothesis import NBest
from asrprune.core.lattice.lattice import Lattice
from asrprune.core.weights import ScoreWeights
from asrprune.files import PathLike

SAMPLING_RATE = 16000
"""Of the audio that decoders get, in Hz."""


@dataclass(frozen=True)
class Decoded:
    """What the decoder made of one utterance.

    ``lattice`` is None when it found no path, or makes none. ``decoder_text`` is the decoder's own
    1-best. ``decode_s`` is the wall time of decoding, ``search_s`` that of what made n-best lists
    out of its result.
    """

    nbest: NBest
    lattice: Optional[Lattice]
    decoder_text: str
    decode_s: float
    search_s: float


class Decoder(Protocol):
    """An open decoder. ``settings`` (plain JSON) are those that its results depend on beyond its
    configuration, ``weights`` those by which its totals are made of the scores of its lists."""

    settings: dict[str, Any]
    weights: ScoreWeights

    def decode(self, utt: str, samples: NDArray[np.int16], ref: Optional[str] = None) -> Decoded:
        """Decode one utterance of ``SAMPLING_RATE``, shape [n_samples]. What comes out does not
        depend on the utterances before."""
        ...


class DecoderConfig(Protocol):
    """A frozen dataclass. Its fields are options of ``first-pass``; those that are compared
    (dataclasses' ``compare``) tell one run from another."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    """Distributions whose versions the results depend on."""
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def open(self, temporary: Optional[PathLike] = None) -> Decoder:
        """The decoder; ``temporary``: a folder for its files (default: the system's).

        Raises MissingPackage, InputError for a model that cannot be read.
        """
        ...
