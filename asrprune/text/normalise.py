"""What is done to a line of text before it is cut into pieces.

All normalisers give NFC (canonical composition), so that one letter has one spelling; none uses
NFKC, which would change letters (full-width forms, ligatures). Each works word by word: the form
of a line is that of its words, one after the other, whether they come as a list or from a lattice.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Optional

from asrprune.core.composition import APOSTROPHES, nfc
from asrprune.core.letter_case import lower_case, upper_case

Normaliser = Callable[[str], str]
"""A line of text to its normal form: words separated by single spaces, "" for nothing left."""

_JOINERS = "\u200c\u200d"  # ZERO WIDTH NON-JOINER and JOINER, letters of Persian and Indic words
_TAG = re.compile(r"<[^\s<>]+>|\[[^\s\[\]]+\]")


class _Letters(dict[int, str]):
    """For str.translate: letters of all scripts, their marks, joiners and the apostrophe stay;
    everything else becomes a space. Filled as characters are met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kept = unicodedata.category(character)[0] in "LM" or character in _JOINERS + "'"
        self[code] = character if kept else " "
        return self[code]


_LETTERS = _Letters()


def _collapse(text: str) -> str:
    return " ".join(nfc(text).split())


def _none(text: str, language: Optional[str]) -> str:
    return _collapse(text)


def _lower(text: str, language: Optional[str]) -> str:
    return _collapse(lower_case(text, language))


def _upper(text: str, language: Optional[str]) -> str:
    return _collapse(upper_case(text, language))


def _asr(text: str, language: Optional[str]) -> str:
    """Lower-case letters of any script with their marks, and apostrophes; everything else separates
    words, and tags (``<COMMA>``, ``[laughter]``) are no words.

    Digits are dropped, not spelled: text with numbers must be verbalised beforehand. Apostrophes
    at the edge of a word stay: those of 'tis and th' cannot be told from quotation marks.

    >>> _asr("\u201cDon\u2019t,\u201d he said -- <laughter> twice.", None)
    "don't he said twice"
    """
    text = nfc(_TAG.sub(" ", text).translate(APOSTROPHES))
    text = nfc(lower_case(text, language).translate(_LETTERS))
    return " ".join(filter(None, map(_whole_letters, text.split())))


def _whole_letters(word: str) -> str:
    """The word without marks in front of its first letter and joiners at its end; "" for one
    without a letter."""
    if word.isalpha():
        return word
    word = word.rstrip(_JOINERS)
    first = next((at for at, one in enumerate(word) if one.isalpha() or one == "'"), len(word))
    word = word[first:]
    return word if word.strip("'") else ""


def _librispeech(text: str, language: Optional[str]) -> str:
    """LibriSpeech's transcripts: upper-case letters and apostrophes."""
    return _collapse(upper_case(_asr(text, language), language))


_FORMS: Mapping[str, Callable[[str, Optional[str]], str]] = MappingProxyType(
    {"none": _none, "lower": _lower, "upper": _upper, "asr": _asr, "librispeech": _librispeech}
)


def normaliser(name: str, language: Optional[str] = None) -> Normaliser:
    """The normaliser called ``name`` for text of ``language`` (ISO 639-1; only letters with and
    without a dot depend on it). Raises KeyError for an unknown name."""
    form = _FORMS[name]
    return lambda text: form(text, language)


NORMALISERS: dict[str, Normaliser] = {name: normaliser(name) for name in _FORMS}
"""Normaliser name -> function. Each is idempotent; ``none`` only composes characters (NFC) and
collapses white space."""
