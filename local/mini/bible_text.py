"""The verses of five public-domain Bible translations, from PyPI packages, and their sentences."""

from __future__ import annotations

import functools
import importlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

from asrprune.errors import InputError, MissingPackage

TRANSLATIONS = ("web", "kjv", "asv", "bbe", "ylt")
"""World English, King James, American Standard, Bible in Basic English, Young's Literal."""

BOOKS = 66
MAX_SENTENCE_WORDS = 25


@dataclass(frozen=True)
class Verse:
    """One verse as printed: ``translation`` "web", ``book`` "RUTH", chapter and number from 1."""

    translation: str
    book: str
    chapter: int
    number: int
    text: str


def read_translation(name: str) -> list[Verse]:
    """All verses of a translation, in order. Raises MissingPackage, or InputError when the
    package's text is not laid out as this reader was checked against."""
    try:
        module = importlib.import_module(f"pythonbible_{name}.plain_text_bible")
    except ModuleNotFoundError:
        raise MissingPackage(f"pythonbible-{name}", "mini") from None
    verses = list(_bbe(module.bible) if name == "bbe" else _indexed(name, module.bible))
    books = len({verse.book for verse in verses})
    if books != BOOKS:
        raise InputError(f"pythonbible-{name}", None, f"{books} books", f"{BOOKS}")
    return verses


def _indexed(name: str, bible: Any) -> Iterator[Verse]:
    """Verses by the package's own index; each must start with its own number."""
    for verse_id, start in bible.verse_start_indices.items():
        printed = bible.scripture_content[start : bible.verse_end_indices[verse_id]].strip()
        book, chapter, number = _book(verse_id // 1000000), verse_id // 1000 % 1000, verse_id % 1000
        if not printed:
            continue  # verses that the ASV leaves out
        if not printed.startswith(f"{number}."):
            found = f"verse {verse_id} starts with {printed[:20]!r}"
            raise InputError(f"pythonbible-{name}", None, found, f"{number}. and its text")
        yield Verse(name, book, chapter, number, printed.partition(".")[2])


def _bbe(bible: Any) -> Iterator[Verse]:
    """Verses of the BBE by the numbers in its text: its index drifts, by 20 verses at the end.

    A book starts at a ``1.`` that no space separates from the text before it; a few chapters
    carry marks such as ``\\43:2\\`` in place of verse numbers.
    """
    books = re.split(r"(?<![\d ])1\. ", bible.scripture_content)[1:]
    for index, content in enumerate(books, start=1):
        chapter = number = 1
        pieces = re.split(r"(\\+\d+:\d+\\+|(?<![\d:\\])\d+\.(?=\s|\\))", content)
        for mark, text in zip(["1.", *pieces[1::2]], pieces[0::2]):
            if mark.endswith("."):
                number = int(mark[:-1])
                chapter += number == 1 and text is not pieces[0]
            else:
                chapter, number = (int(value) for value in mark.strip("\\").split(":"))
            if text.strip():
                yield Verse("bbe", _book(index), chapter, number, text)


@functools.cache
def _book(number: int) -> str:
    """The name of the book that stands at this place of the canon, from 1."""
    import pythonbible

    return str(list(pythonbible.Book)[number - 1].name)


def sentences(text: str) -> Iterator[str]:
    """The sentences of a printed verse: cut at ``. ? !`` and, where longer than 25 words, at
    ``; :`` as well, so that each can be read out in one breath; printed form, not normalised."""
    text = re.sub(r"(BOOK [IVX]+\s+)?Psalm \d+", " ", text)
    for sentence in re.findall(r"[^.?!]+[.?!]*", text):
        if len(sentence.split()) <= MAX_SENTENCE_WORDS:
            yield sentence
        else:
            yield from re.findall(r"[^;:]+[;:]*", sentence)


_LETTERS = str.maketrans({"æ": "ae", "Æ": "ae", "`": "'", "\u2019": "'", "\u2018": "'"})


def normalise(sentence: str) -> Optional[str]:
    """LM text of a printed sentence: lower-case words of letters and inner apostrophes.

    Brackets around words that the translators supplied are dropped and the words kept; every other
    sign separates words. None for a sentence with digits (its words would read wrong without them)
    or without words.

    >>> normalise("Saying, 'God`s [own] Beth-lehem:'")
    "saying god's own beth lehem"
    """
    if any(sign.isdigit() for sign in sentence):
        return None
    plain = unicodedata.normalize("NFKD", sentence.translate(_LETTERS)).lower()
    plain = "".join(sign for sign in plain if not unicodedata.combining(sign))
    words = re.findall(r"[a-z]+(?:'[a-z]+)*", plain)
    return " ".join(words) or None
