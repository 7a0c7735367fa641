"""Sliding context: a hypothesis longer than the model's positions, cut into pieces that fit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

ALL_SCORED = ("error", "window")
"""What may become of a sentence beyond the positions where each that is kept must have a score."""


@dataclass(frozen=True)
class Window:
    """Tokens ``start`` to ``stop`` of a hypothesis, behind ``<s>``; those from ``scored`` on count,
    and those before are their context. ``</s>`` counts in the ``last``."""

    start: int
    stop: int
    scored: int
    last: bool


@lru_cache(maxsize=1 << 12)
def windows(length: int, limit: int) -> tuple[Window, ...]:
    """The windows of a hypothesis of ``length`` tokens, at most ``limit`` in each, every token
    counted once.

    The first has ``limit`` tokens; each further one begins with the last ``limit // 2`` of the one
    before. So a token is scored after at least that many (or all) of the tokens before it, equal
    prefixes have equal windows, and a hypothesis that fits has one window: its own score.
    ``<s>`` stands before every window, also before one that begins inside the sentence: without it
    a model that always saw it gives no sensible probabilities.

    >>> [(one.start, one.stop, one.scored) for one in windows(9, 4)]
    [(0, 4, 0), (2, 6, 4), (4, 8, 6), (6, 9, 8)]
    """
    if limit < 1:
        raise ValueError(f"a limit of {limit} tokens; expected >= 1")
    context = limit // 2
    found = [Window(0, min(length, limit), 0, length <= limit)]
    while not found[-1].last:
        scored = found[-1].stop
        start = scored - context
        stop = min(length, start + limit)
        found.append(Window(start, stop, scored, stop == length))
    return tuple(found)
