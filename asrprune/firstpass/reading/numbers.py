"""Numbers in the text files of decoders, read strictly."""

from __future__ import annotations

import math
import re

_NUMBER = re.compile(r"[-+]?(\d+(?:\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?inf(inity)?", re.ASCII | re.I)


def log_score(text: str) -> float:
    """The number that ``text`` is, as a score: finite or -inf. Raises ValueError otherwise.

    >>> log_score("-1e3"), log_score("-Infinity")
    (-1000.0, -inf)
    """
    if _NUMBER.fullmatch(text) is None or float(text) == math.inf:
        raise ValueError(f"{text[:40]!r} is not a score (a finite number or -inf)")
    return float(text)


def from_cost(text: str) -> float:
    """The score -cost of a cost in ``text``: finite or -inf. Raises ValueError otherwise.

    >>> from_cost("1.5"), from_cost("0"), from_cost("Infinity")
    (-1.5, 0.0, -inf)
    """
    if _NUMBER.fullmatch(text) is None or float(text) == -math.inf:
        raise ValueError(f"{text[:40]!r} is not a cost (a finite number or inf)")
    return 0.0 - float(text)


def to_cost(score: float) -> str:
    """A score as the text of a cost, every digit kept; ``Infinity`` for -inf.

    >>> to_cost(0.0), to_cost(-1.5), to_cost(float("-inf"))
    ('0.0', '1.5', 'Infinity')
    """
    return "Infinity" if score == -math.inf else repr(0.0 - score)


def whole(text: str, what: str, digits: int = 10) -> int:
    """The whole number >= 0 that ``text`` is. Raises ValueError naming ``what`` otherwise."""
    if not (text.isascii() and text.isdigit() and len(text) <= digits):
        raise ValueError(f"{what} {text[:40]!r} is not a whole number")
    return int(text)
