"""One spelling for what is written in several: Unicode's canonical composition (NFC), in a time
that grows with the text and not faster, and apostrophes."""

from __future__ import annotations

import re
import unicodedata

APOSTROPHES = dict.fromkeys(map(ord, "\u2019\u02bc\u00b4\uff07"), "'")
"""For str.translate: what is written for an apostrophe, to that of ASCII."""
_SHORT = 1000
"""Characters up to which the time does not matter."""


def nfc(text: str) -> str:
    """``text`` in NFC: one spelling for a letter with its marks.

    Of many marks on one letter ``unicodedata.normalize`` takes a time that grows with the square
    of their number, to put them into the canonical order; so they are sorted before.
    Source: Unicode Standard Annex 15; the canonical order is by class, stable.

    >>> nfc("Cafe\\u0301")
    'Café'
    """
    if text.isascii():
        return text
    if len(text) > _SHORT:
        text = _with_sorted_marks(text)
    return unicodedata.normalize("NFC", text)


def check_characters(text: str) -> None:
    """Raise ValueError for half a surrogate pair, which no file can hold and no LM has pieces for.

    >>> check_characters("caf\\ud800")
    Traceback (most recent call last):
        ...
    ValueError: 'caf\\ud800' has half a surrogate pair; expected whole characters
    """
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        start = text if len(text) <= 60 else text[:60] + "..."
        found = f"{start!r} has half a surrogate pair"
        raise ValueError(f"{found}; expected whole characters") from None


def _with_sorted_marks(text: str) -> str:
    marks = "".join(one for one in set(text) if unicodedata.combining(_decomposed(one)[0]))
    if not marks:
        return text
    runs = re.compile(f"[{re.escape(marks)}]{{16,}}")
    return runs.sub(lambda run: _sorted(run.group()), text)


def _sorted(run: str) -> str:
    marks = "".join(map(_decomposed, run))
    return "".join(sorted(marks, key=unicodedata.combining))


def _decomposed(character: str) -> str:
    return unicodedata.normalize("NFD", character)
