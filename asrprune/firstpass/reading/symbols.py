"""Tables of word ids (Kaldi's ``words.txt``) and of word pieces (icefall's ``tokens.txt``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Optional

from asrprune.core.special_words import KALDI_BOUNDARIES
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines, write_text

NO_WORDS = KALDI_BOUNDARIES
"""Symbols that stand for no word. Kaldi's noise words (``<NOISE>``, ``!SIL``) are words."""


BLANKS = frozenset({"<blk>", "<blank>", "<b>"})
"""What ``tokens.txt`` calls id 0: the blank of CTC and of transducers, which is no word either."""
NO_PIECES = BLANKS | {"<sos/eos>"}


@dataclass(frozen=True)
class SymbolTable:
    """Word ids both ways; id 0 is epsilon, or the blank of a ``tokens.txt``."""

    path: PathLike
    by_id: Mapping[int, str]
    by_symbol: Mapping[str, int]

    def word(self, number: int) -> str:
        """The word of an id, "" for epsilon and sentence boundaries.

        Raises ValueError for an id that is not in the table.
        """
        if number not in self.by_id:
            raise ValueError(f"word id {number} is not in {self.path}")
        symbol = self.by_id[number]
        return "" if symbol in NO_WORDS or (self.of_pieces and symbol in NO_PIECES) else symbol

    @property
    def of_pieces(self) -> bool:
        """Whether it is a ``tokens.txt``: id 0 is a blank."""
        return self.by_id.get(0) in BLANKS

    def number(self, word: str) -> int:
        """The id of a word, 0 for "". Raises ValueError for a word that is not in the table."""
        if not word:
            return 0
        if word in NO_WORDS or word not in self.by_symbol:
            raise ValueError(f"word {word!r} has no id in {self.path}")
        return self.by_symbol[word]


def read_symbols(path: PathLike) -> SymbolTable:
    """The table of a ``words.txt`` or ``tokens.txt``: ``symbol id`` lines, any order, gaps allowed.

    Raises InputError with the line for other lines, a symbol or id that comes twice, an id 0 that
    is a word, and an empty file.
    """
    by_id: dict[int, str] = {}
    by_symbol: dict[str, int] = {}
    for line_number, line in read_lines(path):
        fields = line.split()
        if len(fields) != 2 or not _is_id(fields[1]):
            raise InputError(path, line_number, f"{line[:40]!r}", "a symbol and its id")
        symbol, number = fields[0], int(fields[1])
        if symbol in by_symbol or number in by_id:
            found = f"{symbol} {number}: symbol or id again"
            raise InputError(path, line_number, found, "each symbol and each id once")
        if number == 0 and symbol not in NO_WORDS | BLANKS:
            raise InputError(path, line_number, f"{symbol} 0", "<eps> for id 0, or <blk>")
        by_id[number] = symbol
        by_symbol[symbol] = number
    if not by_id:
        raise InputError(path, None, "no symbol", "a symbol and its id on each line")
    return SymbolTable(path, by_id, by_symbol)


def find_symbols(given: Optional[PathLike], beside: Optional[PathLike]) -> Optional[SymbolTable]:
    """The table at ``given``, else the one at ``beside`` (when not None), else None."""
    path = beside if given is None else given
    return None if path is None else read_symbols(path)


def write_symbols(path: PathLike, words: Iterable[str]) -> None:
    """Write ``<eps> 0`` and ``words`` with the ids 1, 2, ... in their order."""
    with write_text(path) as stream:
        stream.write("<eps> 0\n")
        for number, word in enumerate(words, start=1):
            stream.write(f"{word} {number}\n")


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10
