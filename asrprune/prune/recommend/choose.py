"""Which plan meets a budget with the least loss, read between the sizes that the study measured."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from asrprune.prune.recommend.table import Estimate, Family, Row

MEGABYTE = 1e6


@dataclass(frozen=True)
class Budget:
    """What a pruned LM may be: at most ``share`` of the dense LM's weights file, or at least
    ``times`` as fast as the dense LM; one of them is None."""

    share: Optional[float]
    times: Optional[float]

    @property
    def met(self) -> bool:
        """Whether the dense LM meets it as it is."""
        return (self.share or 0.0) >= 1.0 or (self.times is not None and self.times <= 1.0)


@dataclass(frozen=True)
class Subject:
    """The LM that is to be pruned: its weights file in bytes, its parameters, those of them that a
    plan may prune."""

    size_bytes: int
    parameters: int
    prunable: int


@dataclass(frozen=True)
class Choice:
    """A plan for the subject and what to expect of it; ``bytes_share`` is of its own file."""

    family: Family
    sparsity: float
    bytes_share: float
    perplexity_ratio: Estimate
    wer_difference: Optional[Estimate]
    speed_ratio: Optional[float]


def parse_budget(text: str, size_bytes: int) -> Budget:
    """The budget in ``12MB``, ``0.5`` (of the bytes) or ``4x`` (times as fast); ``size_bytes`` is
    the dense LM's file. Raises ValueError for anything else.

    >>> parse_budget("12MB", 48_000_000), parse_budget("4x", 1)
    (Budget(share=0.25, times=None), Budget(share=None, times=4.0))
    """
    found = re.fullmatch(r"(\d*\.?\d+) ?(MB|x)?", text, re.ASCII | re.IGNORECASE)
    value = float(found[1]) if found else 0.0
    unit = (found[2] or "").lower() if found else ""
    if value <= 0.0 or (not unit and value > 1.0):
        expected = "megabytes as 12MB, a share of the bytes as 0.5, or a speed as 4x"
        raise ValueError(f"budget {text!r}; expected {expected}")
    if unit == "x":
        return Budget(None, value)
    return Budget(value * MEGABYTE / size_bytes if unit else value, None)


def nearest_lm(rows: Sequence[Row], subject: Subject) -> str:
    """The LM of the table whose number of parameters is nearest, by their ratio."""
    found = min(rows, key=lambda row: abs(math.log(row.parameters / max(1, subject.parameters))))
    return found.family.lm


def choose(rows: Iterable[Row], subject: Subject, budget: Budget) -> list[Choice]:
    """The plans that meet the budget, the one with the least perplexity first; of each family the
    largest size that does. Between two measured sizes ln perplexity, WER and ln speed are taken as
    straight over the sparsity; nothing is read beyond the measured ones, but for the dense LM."""
    families: dict[Family, list[Row]] = {}
    for row in rows:
        families.setdefault(row.family, []).append(row)
    found = [
        choice
        for family, members in families.items()
        if (choice := _largest(family, sorted(members, key=_sparsity), subject, budget))
    ]
    return sorted(found, key=lambda one: (one.perplexity_ratio[0], one.family))


def smallest(rows: Sequence[Row], subject: Subject, budget: Budget) -> Optional[float]:
    """The least share of the bytes, or the greatest speed, that any row gives the subject."""
    if budget.share is not None:
        return min(_share(row, subject) for row in rows)
    return max((row.speed_ratio for row in rows if row.speed_ratio is not None), default=None)


def _sparsity(row: Row) -> float:
    return row.sparsity


def _share(row: Row, subject: Subject) -> float:
    """The bytes of the plan: what the study's LM lost of its prunable weights, so does this one."""
    part = (1.0 - row.bytes_share) * row.parameters / row.prunable  # of the prunable weights' bytes
    return 1.0 - part * subject.prunable / subject.parameters


def _largest(
    family: Family, members: Sequence[Row], subject: Subject, budget: Budget
) -> Optional[Choice]:
    known = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
    before = Choice(family, 0.0, 1.0, known[0], known[1], 1.0)
    for row in members:
        here = Choice(
            family,
            row.sparsity,
            _share(row, subject),
            row.perplexity_ratio,
            row.wer_difference,
            row.speed_ratio,
        )
        part = _reached(before, here, budget)
        if part is not None:
            return _between(before, here, part)
        before = here
    return None


def _reached(before: Choice, here: Choice, budget: Budget) -> Optional[float]:
    """How far from ``before`` to ``here`` the budget is met; None: not even at ``here``."""
    if budget.share is not None:
        start, stop, wanted = -before.bytes_share, -here.bytes_share, -budget.share
    elif here.speed_ratio is None or before.speed_ratio is None or budget.times is None:
        return None
    else:
        start, stop, wanted = map(math.log, (before.speed_ratio, here.speed_ratio, budget.times))
    if stop < wanted:
        return None
    return 1.0 if stop <= start else min(1.0, max(0.0, (wanted - start) / (stop - start)))


def _between(before: Choice, here: Choice, part: float) -> Choice:
    def straight(one: float, other: float) -> float:
        return one + part * (other - one)

    def geometric(one: float, other: float) -> float:
        return math.exp(straight(math.log(one), math.log(other)))

    first, second = before.perplexity_ratio, here.perplexity_ratio
    ratio = tuple(geometric(a, b) for a, b in zip(first, second))
    wer = None
    if before.wer_difference and here.wer_difference:
        pairs = zip(before.wer_difference, here.wer_difference)
        wer = tuple(straight(a, b) for a, b in pairs)
    speed = None
    if before.speed_ratio and here.speed_ratio:
        speed = geometric(before.speed_ratio, here.speed_ratio)
    return Choice(
        here.family,
        straight(before.sparsity, here.sparsity),
        straight(before.bytes_share, here.bytes_share),
        (ratio[0], ratio[1], ratio[2]),
        None if wer is None else (wer[0], wer[1], wer[2]),
        speed,
    )
