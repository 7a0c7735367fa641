"""What is done to a line of text before it is cut into pieces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

Normaliser = Callable[[str], str]
"""A line of text to its normal form: words separated by single spaces, "" for nothing left."""

_APOSTROPHES = dict.fromkeys(map(ord, "\u2019\u02bc\u00b4"), "'")
_NOT_LETTERS = re.compile(r"[^\w']|[\d_]")
_LONE_APOSTROPHES = re.compile(r"(?<!\w)'+(?!\w)")


def _collapse(text: str) -> str:
    return " ".join(text.split())


def _lower(text: str) -> str:
    return _collapse(text.lower())


def _upper(text: str) -> str:
    return _collapse(text.upper())


def _asr(text: str) -> str:
    """Lower-case letters of any script and apostrophes; everything else separates words.

    Digits are dropped, not spelled: text with numbers must be verbalised beforehand. Apostrophes
    at the edge of a word stay: those of 'tis and th' cannot be told from quotation marks.

    >>> _asr("“Don’t,” he said -- twice.")
    "don't he said twice"
    """
    text = unicodedata.normalize("NFC", text.translate(_APOSTROPHES)).lower()
    text = _LONE_APOSTROPHES.sub(" ", _NOT_LETTERS.sub(" ", text))
    return _collapse(text)


def _librispeech(text: str) -> str:
    """LibriSpeech's transcripts: upper-case letters and apostrophes."""
    return _asr(text).upper()


NORMALISERS: dict[str, Normaliser] = {
    "none": _collapse,
    "lower": _lower,
    "upper": _upper,
    "asr": _asr,
    "librispeech": _librispeech,
}
"""Normaliser name -> function. Each is idempotent; ``none`` only collapses white space."""
