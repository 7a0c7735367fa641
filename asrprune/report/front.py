"""The first screen of a report: the rows that it names, and what their numbers say in words."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from asrprune.errors import InputError
from asrprune.report.rows import SystemRow
from asrprune.report.tables import (
    FRONT_COLUMNS,
    difference,
    markdown_table,
    megabytes,
    probability,
    times,
)

FRACTIONS = {
    "three quarters": 3 / 4,
    "two thirds": 2 / 3,
    "half": 1 / 2,
    "a third": 1 / 3,
    "a quarter": 1 / 4,
    "a fifth": 1 / 5,
    "a sixth": 1 / 6,
    "a seventh": 1 / 7,
    "an eighth": 1 / 8,
    "a ninth": 1 / 9,
    "a tenth": 1 / 10,
    "a fifteenth": 1 / 15,
    "a twentieth": 1 / 20,
}
"""What a size is called that is within TOLERANCE of it."""
TOLERANCE = 0.1
LINE = 100
"""Characters of a line of Markdown."""


@dataclass(frozen=True)
class Front:
    """The rows of the first screen, in its order, and the sentences below them."""

    rows: tuple[SystemRow, ...]
    sentences: tuple[str, ...]

    def markdown(self) -> str:
        """The table in few columns, then the sentences as a list."""
        text = markdown_table(self.rows, FRONT_COLUMNS)
        if self.sentences:
            items = (markdown_item(sentence) for sentence in self.sentences)
            text += "\n" + "".join(f"{item}\n" for item in items)
        return text


def markdown_item(text: str) -> str:
    """``text`` as an item of a list, in lines that a terminal shows whole."""
    lines = textwrap.wrap(
        text, LINE - 2, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return "- " + "\n".join(lines)


def make_front(
    rows: Sequence[SystemRow], names: Sequence[str], baseline: Optional[str] = None
) -> Front:
    """The first screen with the rows called ``names``, in that order; ``baseline`` is the row that
    the others were compared with. Raises InputError for a name that is no row's or comes twice."""
    known = {row.name: row for row in rows}
    for name in names:
        if name not in known:
            expected = f"names for --front among {', '.join(known)}"
            raise InputError(name, None, "no such run", expected)
        if list(names).count(name) > 1:
            raise InputError(name, None, "named twice", "different names for --front")
    chosen = tuple(known[name] for name in names)
    return Front(chosen, tuple(_sentences(chosen, known.get(baseline or ""))))


def _sentences(rows: Sequence[SystemRow], base: Optional[SystemRow]) -> list[str]:
    """One a size class of the pruned rows, largest first, and one an n-gram; none without a
    baseline to hold them against."""
    if base is None:
        return []
    compared = [row for row in rows if row.delta_percent is not None]
    classes: dict[str, list[SystemRow]] = {}
    if base.size_bytes:
        sized = [(row.size_bytes, row) for row in compared if row.kind == "pruned"]
        known = [(size / base.size_bytes, row) for size, row in sized if size is not None]
        for fraction, row in sorted(known, key=lambda one: -one[0]):
            classes.setdefault(size_class(fraction), []).append(row)
    found = [_pruned(size, members, base) for size, members in classes.items()]
    return found + [_ngram(row, base) for row in compared if row.kind == "n-gram"]


def size_class(fraction: float) -> str:
    """What a part of a size is called: the nearest of FRACTIONS, or a percentage where none is
    within TOLERANCE of it.

    >>> size_class(0.26), size_class(0.415)
    ('a quarter', '42 %')
    """
    away = {name: abs(fraction / part - 1) for name, part in FRACTIONS.items()}
    name = min(away, key=lambda name: away[name])
    if away[name] <= TOLERANCE:
        return name
    return f"{100 * fraction:.0f} %" if fraction >= 0.01 else f"{100 * fraction:.2g} %"


def _pruned(size: str, rows: Sequence[SystemRow], base: SystemRow) -> str:
    start = f"{size[0].upper()}{size[1:]} of {_the(base)}'s bytes"
    if len(rows) == 1:
        what = f"{megabytes(rows[0].size_bytes)} MB, {rows[0].name}"
        cost, speed = _cost(rows[0], base), _speed(rows[0], base)
        return f"{start} ({what}): {cost}{'; ' if speed else ''}{speed}."
    parts, told = [], None
    for row in rows:
        part = f"{row.name} ({megabytes(row.size_bytes)} MB) {_cost(row, base)}"
        speed = _speed(row, base)
        if speed and row.padded_lm == told:
            part += f", {times(row.times_padded)} times"
        elif speed:
            part += f", {speed}"
            told = row.padded_lm
        parts.append(part)
    return f"{start}: {'; '.join(parts)}."


def _cost(row: SystemRow, base: SystemRow) -> str:
    return f"WER {_difference(row)}, {verdict(row, base)}"


def _speed(row: SystemRow, base: SystemRow) -> str:
    """How fast it is against padded batches, and how fast the baseline is; "" if not known, or
    not to be compared."""
    if row.times_padded is None or row.padded_lm is None or not row.measured_like(base):
        return ""
    if row.padded_lm == base.padded_lm and not row.same_yardstick(base):
        return ""
    if row.padded_lm == base.name:
        batch = f"{_the(base)}'s padded fp32 batch"
    else:
        batch = f"the padded fp32 batch of {row.padded_lm}"
    text = f"{times(row.times_padded)} times as fast as {batch}"
    if base.times_padded is not None and base.padded_lm == row.padded_lm:
        text += f" ({base.name} itself: {times(base.times_padded)})"
    return text


def _ngram(row: SystemRow, base: SystemRow) -> str:
    what = f"{megabytes(row.size_bytes)} MB, {row.name}" if row.size_bytes else row.name
    p = probability(row.delta_p)
    p = f", p {p}" if p else ""
    said = verdict(row, base)
    return f"The n-gram LM ({what}) against {_the(base)}: WER {_difference(row)}{p}, {said}."


def _difference(row: SystemRow) -> str:
    return difference(row.delta_percent, row.delta_low, row.delta_high)


def verdict(row: SystemRow, base: SystemRow) -> str:
    """What the paired interval says: one that holds 0 shows neither a loss nor a gain."""
    if row.delta_low is None or row.delta_high is None:
        return "without an interval"
    if row.delta_low > 0:
        return "a loss"
    if row.delta_high < 0:
        return "a gain"
    words = "" if base.words is None else f" that {base.words:,} words can show"
    return f"no {'loss' if (row.delta_percent or 0.0) >= 0 else 'gain'}{words}"


def _the(base: SystemRow) -> str:
    return "the dense LM" if base.kind == "dense" else base.name
