"""What LM scoring knows of a tokeniser: text to token ids, in the form that the LM wants."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Optional, Protocol, Union

from asrprune.files import PathLike
from asrprune.text.coverage import Coverage
from asrprune.text.form import (
    UNKNOWN_WORD,
    Speller,
    TextForm,
    TextOptions,
    capitalised,
    case_shown,
)


class PieceModel(Protocol):
    """A vocabulary of pieces of words, whichever library it comes from. ``begin`` and ``end`` are
    the ids of ``<s>`` and ``</s>``, which stand around a sentence and never in it; ``unknown`` is
    that of what it cannot spell. ``first_differs``: the first word of a sentence has other ids than
    it would have later."""

    @property
    def begin(self) -> int: ...

    @property
    def end(self) -> int: ...

    @property
    def unknown(self) -> int: ...

    @property
    def first_differs(self) -> bool: ...

    @property
    def prompt(self) -> tuple[int, ...]:
        """Ids that stand between ``begin`` and the first word and are not scored."""

    @property
    def tail(self) -> tuple[int, ...]:
        """Ids that stand between the last word and ``end``; scored with it."""

    @property
    def form(self) -> Optional[TextForm]:
        """The text form that the file states, if it does."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""

    @property
    def alphabet(self) -> frozenset[str]:
        """The characters that it can spell."""

    def encode_words(self, words: Sequence[str], first: bool) -> list[list[int]]:
        """Ids of each word, in order. A word's ids do not depend on the words beside it."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids."""

    def piece(self, index: int) -> str:
        """The piece with this id."""

    def is_byte(self, index: int) -> bool:
        """Whether the id stands for a byte of a character without a piece."""

    def has_piece(self, word: str) -> bool:
        """Whether the whole word is one piece."""


class Tokenizer:
    """Token ids of sentences and of words, each word spelled once.

    ``model`` is a PieceModel or the file of one. Words go through ``form`` first (by default
    the one that the file states, or the letters' case that the pieces show); special words such
    as ``<unk>`` or ``[noise]`` become what core/special_words.py and ``options`` say. A word
    with something that the model cannot spell is the unknown word, one token. The ids of a
    sentence are those of its words laid end to end, and then ``tail``: what the LM wants before
    the end mark (a full stop). ``prompt`` are ids that stand behind ``begin`` and are never
    scored.

    Raises InputError for a file of no kind that is known.
    """

    def __init__(
        self,
        model: Union[PathLike, PieceModel],
        form: Optional[TextForm] = None,
        options: Optional[TextOptions] = None,
    ) -> None:
        self.model = open_pieces(model) if isinstance(model, (str, os.PathLike)) else model
        self.begin, self.end, self.unknown = self.model.begin, self.model.end, self.model.unknown
        self.prompt, self.tail = self.model.prompt, self.model.tail
        options = options or TextOptions()
        stated = self.model.form if form is None else form
        if stated is None:
            stated = TextForm(case=case_shown(self.model.alphabet))
        self.form = options.form(stated)
        self._spell = Speller(self.form, options.special, self.model.has_piece)
        self._first: dict[str, tuple[int, ...]] = {}
        self._capital = self.form.case == "sentence"
        self._later = {} if self._capital or self.model.first_differs else self._first
        self._pieces: dict[Optional[str], tuple[tuple[int, ...], tuple[int, ...]]] = {}

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""
        return self.model.vocab_size

    def line(self, text: str) -> str:
        """A line of text as the model sees it: words in the LM's form, ``<unk>`` for unknowns."""
        return self._spell.line(text)

    def encode(self, text: str) -> list[int]:
        """Ids of a sentence without ``begin``, ``prompt`` and ``end``; the ``tail`` alone for the
        empty sentence."""
        return self.encode_batch((text,))[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each sentence, in order."""
        split = [text.split() for text in texts]
        try:
            return [self._sentence(words) for words in split]
        except KeyError:  # of a word that is new
            self.learn(itertools.chain.from_iterable(split))
        return [self._sentence(words) for words in split]

    def encode_word(self, word: str, first: bool) -> tuple[int, ...]:
        """The ids of one word; ``first``: no token stands before it in its sentence."""
        known = self._first if first else self._later
        if word not in known:
            self.learn((word,))
        return known[word]

    def encode_words(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """The ids of every word of a sentence, without the ``tail``; none for a word that the LM
        does not see."""
        self.learn(words)
        if self._later is self._first:
            return [self._first[word] for word in words]
        found: list[tuple[int, ...]] = []
        known = self._first
        for word in words:
            found.append(known[word])
            known = self._later if found[-1] else known
        return found

    def ids_of(self, words: Iterable[str]) -> set[int]:
        """All ids that the words have, at the start of a sentence or later."""
        words = list(words)
        self.learn(words)
        return {i for known in (self._first, self._later) for word in words for i in known[word]}

    def learn(self, words: Iterable[str]) -> None:
        """Spell those that are new, all at once."""
        new = sorted(set(words).difference(self._first))
        if not new:
            return
        parts = {word: self._spell(word) for word in new}
        opening = {word: self._opening(spelled) for word, spelled in parts.items()}
        self._learn_pieces(
            part for some in (parts, opening) for spelled in some.values() for part in spelled
        )
        for word in new:
            for known, first in ((self._later, False), (self._first, True)):
                ids: list[int] = []
                for part in opening[word] if first else parts[word]:
                    ids.extend(self._pieces[part][0 if first and not ids else 1])
                known[word] = tuple(ids)

    def _opening(self, parts: Sequence[Optional[str]]) -> Sequence[Optional[str]]:
        """A word's parts where it opens a sentence."""
        if not self._capital or not parts or parts[0] is None:
            return parts
        return (capitalised(parts[0], self.form.language), *parts[1:])

    def _learn_pieces(self, parts: Iterable[Optional[str]]) -> None:
        self._pieces.setdefault(None, ((self.unknown,), (self.unknown,)))
        new = sorted({part for part in parts if part is not None}.difference(self._pieces))
        later = self.model.encode_words(new, first=False)
        first = self.model.encode_words(new, first=True) if self.model.first_differs else later
        for word, one, other in zip(new, first, later):
            self._pieces[word] = (self._known(one), self._known(other))

    def _known(self, ids: Sequence[int]) -> tuple[int, ...]:
        return (self.unknown,) if self.unknown in ids else tuple(ids)

    def _sentence(self, words: Sequence[str]) -> list[int]:
        if self._later is self._first:
            known = map(self._first.__getitem__, words)
            return [*itertools.chain.from_iterable(known), *self.tail]
        ids: list[int] = []
        for word in words:
            ids += self._later[word] if ids else self._first[word]
        return [*ids, *self.tail]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids."""
        return self.model.decode(ids)

    def piece(self, index: int) -> str:
        """The piece with this id."""
        return self.model.piece(index)

    def count_unknown(self, text: str) -> int:
        """Number of words that hold something which the model cannot spell (OOV words)."""
        return sum(self.unknown in ids for ids in self.encode_words(text.split()))

    def coverage(self, words: Mapping[str, int]) -> Coverage:
        """How much of the words (word -> how often) the model knows."""
        self.learn(words)
        found = Coverage()
        for word, count in words.items():
            spelled = self._spell(word)
            pieces = [self._pieces[part][1] for part in spelled]
            found += Coverage.of(
                word,
                count,
                dropped=not spelled,
                special=None in spelled,
                unknown=any(self.unknown in ids for ids in pieces),
                spelled_in_bytes=any(self.model.is_byte(i) for ids in pieces for i in ids),
                outside=self._outside(spelled),
            )
        return found

    def _outside(self, spelled: Sequence[Optional[str]]) -> set[str]:
        return {c for part in spelled if part for c in part} - self.model.alphabet

    def knows(self, word: str) -> bool:
        """Whether the model can spell a word as it stands, whatever form it wants."""
        ids = self.model.encode_words([word], first=False)[0]
        return self.unknown not in ids and not any(map(self.model.is_byte, ids))


TOKENIZER_NAMES = ("tokenizer.model", "tokenizer.json")
"""What a tokeniser's file is called in a folder: a SentencePiece model, or that of an imported LM
(text/marked.py)."""


def open_pieces(path: PathLike) -> PieceModel:
    """The pieces in a tokeniser's file. Raises InputError for a file of no kind that is known."""
    if tokenizer_name(path) == TOKENIZER_NAMES[1]:
        from asrprune.text.marked import MarkedTokenizer

        return MarkedTokenizer(path)
    from asrprune.text.sentencepiece import SentencePieceModel

    return SentencePieceModel(path)


def tokenizer_name(path: PathLike) -> str:
    """The one of TOKENIZER_NAMES for the file ``path``, by its first byte: JSON or not."""
    if not os.path.isfile(path):
        return TOKENIZER_NAMES[0]
    with open(path, "rb") as stream:
        return TOKENIZER_NAMES[stream.read(1) == b"{"]


def tokenizer_in(folder: PathLike) -> Path:
    """The tokeniser's file in a folder; the first of TOKENIZER_NAMES where there is none."""
    places = [Path(folder) / name for name in TOKENIZER_NAMES]
    return next((place for place in places if place.is_file()), places[0])


def without_unknown(line: str) -> str:
    """A line of ``Tokenizer.line`` without its unknown words: what pieces can be learned from."""
    return " ".join(word for word in line.split() if word != UNKNOWN_WORD)
