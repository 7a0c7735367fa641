"""The words of an n-gram model's file, and the text form that they show."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from itertools import takewhile

from asrprune.core.special_words import kind_of
from asrprune.core.units import UNITS, WORD, unspaced_words
from asrprune.files import PathLike, open_binary, raw_lines
from asrprune.text.form import TextForm, case_shown

_FIRST_WORD = b"<unk>\0"  # of the words that KenLM writes at the end of a binary file


def vocabulary(path: PathLike) -> Iterator[str]:
    """The words of an ARPA file (``.gz`` too) or KenLM binary; none where a binary has none.

    Source: the ARPA format (ngram-format(5) of SRILM); KenLM's ``lm/vocab.cc`` writes the words of
    a binary one after the other, each with a zero byte behind it, ``<unk>`` first.
    """
    with open_binary(path) as stream:
        arpa = stream.read(4) != b"mmap"
    yield from _arpa_words(path) if arpa else _binary_words(path)


def shown_form(words: Iterable[str]) -> TextForm:
    """The form of a vocabulary: the case of its letters; the unit ``mixed`` where each Han or kana
    character is a word.

    >>> shown_form(["<unk>", "the", "cat"]), shown_form(["\u4eca", "\u5929", "</s>"]).unit
    (TextForm(normaliser='none', case='lower', language=None, unit='word'), 'mixed')
    """
    plain = [word for word in words if kind_of(word) is None]
    unspaced = [word for word in plain if unspaced_words(word)[0]]
    single = bool(unspaced) and all(len(UNITS["mixed"](word)) == 1 for word in unspaced)
    return TextForm(case=case_shown(plain), unit="mixed" if single else WORD)


def _arpa_words(path: PathLike) -> Iterator[str]:
    with open_binary(path) as stream:
        lines = raw_lines(path, stream)
        for line in lines:
            if line.strip() == b"\\1-grams:":
                break
        for line in takewhile(lambda line: not line.startswith(b"\\"), lines):
            fields = line.split()
            if len(fields) > 1:
                yield fields[1].decode("utf-8", "replace")


def _binary_words(path: PathLike) -> Iterator[str]:
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.rfind(_FIRST_WORD)
        words = b"" if start < 0 else data[start:]
    if words.endswith(b"\0"):
        yield from (word.decode("utf-8", "replace") for word in words.split(b"\0")[:-1])
