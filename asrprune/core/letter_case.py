"""Small and capital letters, also of the languages whose i without a dot is a letter."""

from __future__ import annotations

from typing import Optional

DOTTED_I_LANGUAGES = ("tr", "az")
"""Languages whose small letters of I and \u0130 are \u0131 and i (ISO 639-1)."""

_DOTTED = str.maketrans({"I": "\u0131", "\u0130": "i"})
_UNDOTTED = str.maketrans({"i": "\u0130", "\u0131": "I"})


def lower_case(text: str, language: Optional[str] = None) -> str:
    """Small letters; those of Turkish and Azerbaijani where ``language`` is ``tr`` or ``az``.

    >>> lower_case("\u0130STANBUL"), lower_case("ISPARTA", "tr")
    ('istanbul', '\u0131sparta')
    """
    if language in DOTTED_I_LANGUAGES:
        text = text.translate(_DOTTED)
    return text.replace("\u0130", "i").lower()  # str.lower would write i and a loose dot


def upper_case(text: str, language: Optional[str] = None) -> str:
    """Capital letters, likewise."""
    if language in DOTTED_I_LANGUAGES:
        text = text.translate(_UNDOTTED)
    return text.upper()
