"""The tokeniser of an imported LM: pieces of another toolkit with the sentence marks they go with.

One JSON file holds both, so that whatever carries the tokeniser carries how a sentence is scored:
``pieces`` is the text of a ``tokenizer.json``, as the library ``tokenizers`` reads it. Hypotheses
that share their first words must share their first tokens, so a tokeniser is taken only if a word's
pieces do not depend on the words beside it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asrprune.core.checksums import sealed_text
from asrprune.core.record import Record, a, a_string, read_record
from asrprune.errors import InputError, MissingPackage
from asrprune.files import PathLike, sha256
from asrprune.text.form import TextForm
from asrprune.text.sentence import SentenceMarks

FORMAT, FORMAT_VERSION = "asrprune-tokenizer", 1

_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_CROSSING = re.compile(r"\S +(?:\S|$)")
_AWKWARD = ("don't", "o'clock", "1990s", "3.5", "Mr.", "--", "e-mail", "\u00e9t\u00e9", "a", "I'll")
"""Words at which tokenisers cut in ways of their own; each stands once more behind another."""
_SAMPLE = 60


class MarkedTokenizer:
    """A PieceModel of a file with a ``marked_text``. Can be pickled (it takes its text along).

    Raises InputError for a file of another kind, pieces that the library refuses, marks that are no
    ids of theirs, and pieces of a word that depend on the words beside it.
    """

    def __init__(self, path: PathLike, text: str | None = None) -> None:
        """``text`` is what the file at ``path`` is to hold, of one that is not written yet."""
        self.path = Path(path)
        if text is None:
            self.sha256 = sha256(self.path)
            record = read_record(self.path)
        else:
            self.sha256 = hashlib.sha256(text.encode()).hexdigest()
            record = Record(self.path, json.loads(text))
        record.check_format(FORMAT, FORMAT_VERSION, "a tokenizer")
        self._load(record)
        self._check_words()

    def _load(self, record: Record) -> None:
        self._record = record
        self.marks = record.get("marks", a(SentenceMarks))
        self.form = record.find("form", a(TextForm))
        self.pieces_json = record.get("pieces", a_string)
        self._pieces = open_pieces(self.pieces_json, self.path)
        known = self._pieces.get_vocab(with_added_tokens=True)
        self._vocab: dict[str, int] = known
        self._names = {index: piece for piece, index in known.items()}
        self._special = {
            index
            for index, added in self._pieces.get_added_tokens_decoder().items()
            if added.special
        }
        if max(self._names, default=-1) >= self.marks.vocab_size:
            found = f"the id {max(self._names)} of the piece {self._names[max(self._names)]!r}"
            expected = f"ids below {self.marks.vocab_size}, the rows of the LM's embedding"
            raise InputError(self.path, None, found, expected)
        self._byte_level = is_byte_level(self.pieces_json)
        self._before_ids = self._ids([_BEFORE])[0]
        if not self._before_ids or self._ids([f"{_BEFORE} {_BEFORE}"])[0] == self._before_ids:
            found = f"{_BEFORE!r} spelled as {self._before_ids}"
            raise InputError(self.path, None, found, "a tokenizer that can spell Latin letters")
        self._fresh_differs = self._spelled([_BEFORE], True) != self._spelled([_BEFORE], False)

    def _check_words(self) -> None:
        """Raise InputError unless words can be spelled one by one."""
        expected = "a tokenizer that spells each word by itself"
        suspects = [
            (index, text)
            for index, text in ((i, self._text(i)) for i in sorted(self._names))
            if text is not None and index not in self._special and _CROSSING.search(text)
        ]
        for index, text in suspects:
            if index in self._ids([text.lstrip(" ")])[0] or index in self._ids([text])[0]:
                raise InputError(self.path, None, f"the piece {text!r} across words", expected)
        words = self._sample_words()
        together = self._ids([" ".join(words)])[0]
        if together != self.encode_text(words):
            found = "pieces of a word that depend on the words beside it"
            raise InputError(self.path, None, found, expected)

    def _sample_words(self) -> list[str]:
        """Words of all kinds, added tokens that are no marks among them, in one line."""
        texts = (self._text(index) for index in sorted(self._names.keys() - self._special))
        whole = [text.strip() for text in texts if text is not None and text.strip().isalpha()]
        plain = whole[:: max(1, len(whole) // _SAMPLE)][:_SAMPLE] or [_BEFORE]
        added = [
            one.content
            for index, one in self._pieces.get_added_tokens_decoder().items()
            if index not in self._special and one.content.split() == [one.content]
        ]
        awkward = [word for word in _AWKWARD for word in (word, plain[0])]
        return [*plain, *awkward, *(word for one in added[:_SAMPLE] for word in (one, plain[-1]))]

    @property
    def begin(self) -> int:
        """The id before a sentence."""
        return self.marks.begin

    @property
    def end(self) -> int:
        """The id behind a sentence."""
        return self.marks.end

    @property
    def unknown(self) -> int:
        """The id of a word that cannot be spelled."""
        return self.marks.unknown

    @property
    def first_differs(self) -> bool:
        """Whether the first word of a sentence has other ids than it would have later."""
        return self._fresh_differs and self.marks.starts_fresh

    @functools.cached_property
    def prompt(self) -> tuple[int, ...]:
        """Ids that stand between ``begin`` and the first word and are not scored."""
        return tuple(self._ids([self.marks.prompt])[0]) if self.marks.prompt else ()

    @functools.cached_property
    def tail(self) -> tuple[int, ...]:
        """Ids between the last word and ``end``; scored with it."""
        whole = self._ids([_BEFORE + self.marks.stop])[0]
        if whole[: len(self._before_ids)] == self._before_ids:
            return tuple(whole[len(self._before_ids) :])
        return tuple(self._ids([self.marks.stop])[0])  # a piece of its own behind every word

    @property
    def vocab_size(self) -> int:
        """Rows of the LM's embedding."""
        return self.marks.vocab_size

    @functools.cached_property
    def alphabet(self) -> frozenset[str]:
        """The characters of the pieces that hold whole characters, marks and bytes apart."""
        texts = (self._text(index) for index in self._names.keys() - self._special)
        return frozenset("".join(text for text in texts if text is not None)) - {" "}

    def encode_words(self, words: Sequence[str], first: bool) -> list[list[int]]:
        """Ids of each word, in order; ``first``: as that of a sentence's first word."""
        return self._spelled(words, first and self.marks.starts_fresh) if words else []

    def encode_text(self, words: Sequence[str]) -> list[int]:
        """Ids of a text that begins with these words, whatever prompt sentences have."""
        alone = self._spelled(words[:1], True) + self._spelled(words[1:], False)
        return [token for ids in alone for token in ids]

    def _spelled(self, words: Sequence[str], fresh: bool) -> list[list[int]]:
        if fresh:
            return self._ids(words)
        before = len(self._before_ids)
        return [ids[before:] for ids in self._ids([f"{_BEFORE} {word}" for word in words])]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        found = self._pieces.encode_batch_fast(list(texts), add_special_tokens=False)
        return [list(one.ids) for one in found]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids, marks left out."""
        return str(self._pieces.decode(list(ids)))

    def only_token(self, text: str) -> int | None:
        """The id of the only token that the text is cut into; None for several."""
        ids = self._ids([text])[0]
        return ids[0] if len(ids) == 1 else None

    def piece(self, index: int) -> str:
        """The piece with this id, as the library spells it; "" for a row without one."""
        name: str = self._names.get(index, "")
        return name

    def is_byte(self, index: int) -> bool:
        """Whether the id stands for bytes that are no whole characters."""
        return index not in self._special and index in self._names and self._text(index) is None

    def has_piece(self, word: str) -> bool:
        """Whether the whole word is one piece, marks apart."""
        index = self._vocab.get(word)
        return index is not None and index not in self._special

    def _text(self, index: int) -> str | None:
        """What the piece stands for, with spaces; None for bytes that are no whole characters."""
        piece = self._names[index]
        if self._byte_level and index not in self._pieces.get_added_tokens_decoder():
            return byte_level_text(piece)
        return None if _BYTE_PIECE.fullmatch(piece) else piece.replace("\u2581", " ")

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "sha256": self.sha256, "record": self._record}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self.sha256 = state["sha256"]
        self._load(state["record"])


_BEFORE = "a"
"""What a word in the middle of a sentence stands behind."""


def marked_text(pieces: str, marks: SentenceMarks, form: TextForm | None = None) -> str:
    """What a file holds that MarkedTokenizer reads; ``pieces`` is the text of a tokenizer.json, and
    ``form`` the text form that the LM wants."""
    return sealed_text(
        {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "marks": marks.to_dict(),
            "form": None if form is None else form.to_dict(),
            "pieces": pieces,
        }
    )


def open_pieces(text: str, path: PathLike) -> Any:
    """The ``tokenizers.Tokenizer`` of a tokenizer.json's text, which never adds, cuts or pads, and
    takes the names of its marks in a text for plain text.

    Raises InputError naming ``path`` for a text that the library refuses.
    """
    try:
        import tokenizers
    except ImportError:
        raise MissingPackage("tokenizers", "exchange") from None
    try:
        pieces = tokenizers.Tokenizer.from_str(text)
    except Exception as problem:
        if type(problem) is not Exception and not isinstance(problem, ValueError):
            raise
        found = f"pieces that do not load ({problem})"
        raise InputError(path, None, found, "a tokenizer.json of the library tokenizers") from None
    pieces.no_truncation()
    pieces.no_padding()
    pieces.encode_special_tokens = True
    return pieces


def is_byte_level(text: str) -> bool:
    """Whether the pieces of a tokenizer.json are bytes in the letters of GPT-2."""
    decoder = json.loads(text).get("decoder") or {}
    parts = [decoder, *decoder.get("decoders", [])]
    return any(one.get("type") == "ByteLevel" for one in parts)


def byte_level_text(piece: str) -> str | None:
    """The text of a piece that is spelled byte by byte; None if it is no whole characters.

    >>> byte_level_text("\u0120caf\u00c3\u00a9"), byte_level_text("\u00c3")
    (' caf\u00e9', None)
    """
    letters = _letters_to_bytes()
    try:
        return bytes(letters[letter] for letter in piece).decode()
    except (KeyError, UnicodeDecodeError):
        return None


@functools.cache
def _letters_to_bytes() -> dict[str, int]:
    """GPT-2's letter of every byte: itself if it can be seen, else one from U+0100 on, in order."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in seen]
    letters = {chr(byte): byte for byte in seen}
    return letters | {chr(256 + number): byte for number, byte in enumerate(hidden)}
