"""What LM scoring knows of a tokeniser, whichever library it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from asrprune.files import PathLike


class Tokenizer(Protocol):
    """Text to token ids. ``begin`` and ``end`` are the ids of ``<s>`` and ``</s>``, which stand
    around a sentence and never in it; ``unknown`` is that of what it cannot spell."""

    @property
    def begin(self) -> int: ...

    @property
    def end(self) -> int: ...

    @property
    def unknown(self) -> int: ...

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each sentence without ``begin`` and ``end``, in order; [] for the empty one.

        Pieces never cross a word boundary: the ids of a sentence are those of its words laid end
        to end.
        """

    def count_unknown(self, text: str) -> int:
        """Number of words that hold something which the tokeniser cannot spell."""


def open_tokenizer(path: PathLike) -> Tokenizer:
    """The tokeniser in a file. Raises InputError for a file of no kind that is known."""
    from asrprune.text.sentencepiece import SentencePieceTokenizer

    return SentencePieceTokenizer(Path(path))
