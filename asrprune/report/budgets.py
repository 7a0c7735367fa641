"""What the numbers recommend: the verdict in a sentence, and an LM for each budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from asrprune.report.front import TOLERANCE, size_class, verdict
from asrprune.report.rows import SystemRow
from asrprune.report.tables import difference, megabytes, times

SIZES = (
    ("half the size", 1 / 2),
    ("a quarter of the size", 1 / 4),
    ("a tenth of the size", 1 / 10),
)
SPEEDS = (2, 5, 10)
APART = "not measured together"
"""What stands in the place of a speed that cannot be compared with the baseline's."""
MOST = 3
"""So many recommended systems are shown in detail."""


@dataclass(frozen=True)
class Budget:
    """A limit in words, and the row that is recommended within it; None where none keeps it.
    ``of_size``: it is a part of the baseline's bytes, not a speed."""

    limit: str
    row: Optional[SystemRow]
    of_size: bool = False


def candidates(rows: Sequence[SystemRow]) -> list[SystemRow]:
    """The rows among which one is recommended: pruned LMs that were compared with the
    baseline."""
    return [row for row in rows if row.kind == "pruned" and row.delta_percent is not None]


def recommend(rows: Sequence[SystemRow], base: SystemRow) -> list[Budget]:
    """The LM of the lowest WER for half, a quarter and a tenth of the baseline's bytes (up to
    TOLERANCE more), and for 2, 5 and 10 times its speed; of equal ones the smaller.

    Sizes and speeds that nothing was measured of are left out, and budgets beyond the first that
    no LM keeps.
    """
    every = candidates(rows)
    found = []
    for name, part in SIZES if base.size_bytes else ():
        limit = part * (1 + TOLERANCE) * (base.size_bytes or 0)
        kept = [row for row in every if row.size_bytes is not None and row.size_bytes <= limit]
        found.append(Budget(name, _best(kept), of_size=True))
    faster = {row.name: speed_over(row, base) for row in every}
    for speed in SPEEDS if any(faster.values()) else ():
        kept = [row for row in every if (faster[row.name] or 0) >= speed]
        found.append(Budget(f"{speed} times as fast", _best(kept)))
    return [
        budget
        for budget, before in zip(found, [None, *found])
        if budget.row is not None or before is None or before.row is not None
    ]


def speed_over(row: SystemRow, base: SystemRow) -> Optional[float]:
    """How many times as fast as the baseline it scores; None where they were not measured in one
    run, or under the same conditions."""
    if not row.measured_like(base):
        return None
    if row.times_padded and base.times_padded and row.same_yardstick(base):
        return row.times_padded / base.times_padded
    return base.lm_rtf / row.lm_rtf if row.lm_rtf and base.lm_rtf else None


def main_rows(budgets: Sequence[Budget]) -> list[SystemRow]:
    """The recommended rows, each once, MOST at most."""
    rows = {one.row.name: one.row for one in budgets if one.row is not None}
    return list(rows.values())[:MOST]


def verdict_sentence(rows: Sequence[SystemRow], base: SystemRow) -> str:
    """The result in words: what each size costs, and the smallest LM whose WER is not surely above
    the baseline's; "" where no pruned LM was compared with ``base``."""
    every = candidates(rows)
    best = _best(every)
    if best is None:
        return ""
    costs: dict[str, str] = {}
    for budget in recommend(rows, base):
        if budget.row is not None and budget.of_size:
            costs.setdefault(budget.row.name, f"at {budget.limit} {_told(budget.row, base)}")
    said = "; ".join(costs.values()) or f"{best.name}: {_told(best, base)}"
    kept = [row for row in every if row.delta_low is not None and row.delta_low <= 0]
    smallest = min(kept, key=lambda row: (row.size_bytes or 0, row.name), default=None)
    said = f"{said[0].upper()}{said[1:]}." if costs else f"{said}."
    if smallest is None:
        return f"{said} No pruned LM is without a loss."
    if base.size_bytes is None or smallest.size_bytes is None or len(every) == 1:
        return said
    part = size_class(smallest.size_bytes / base.size_bytes)
    return (
        f"{said} Smallest without a clear loss: {smallest.name} ({part} of the size, "
        f"{_delta(smallest)})."
    )


def asked_sentence(rows: Sequence[SystemRow], base: SystemRow) -> str:
    """What was compared with what, on how much."""
    kinds = [row.kind for row in rows if row is not base]
    counts = [(kinds.count("pruned"), "pruned LM"), (kinds.count("n-gram"), "n-gram LM")]
    counts += [(kinds.count("combined"), "combination"), (kinds.count("rescored"), "other LM")]
    others = ", ".join(f"{count} {name}{'s' * (count > 1)}" for count, name in counts if count)
    words = "" if base.words is None else f" on {base.words:,} words of test"
    size = "" if base.size_bytes is None else f" ({megabytes(base.size_bytes)} MB)"
    first = next((row for row in rows if row.kind == "first pass"), None)
    start = f"How small and fast can {base.name}{size} get before WER suffers?"
    if not candidates(rows):
        start = f"What does each system change against {base.name}{size}?"
    compared = (
        f"{others[:1].upper()}{others[1:]} against it{words}" if others else "Measured" + words
    )
    if base.wer_percent is None:
        return f"{start} {compared}."
    rates = f"WER {base.wer_percent:.2f}"
    if first is not None and first.wer_percent is not None:
        rates += f", first pass {first.wer_percent:.2f}"
    return f"{start} {compared} ({base.name}: {rates})."


def choice_note(rows: Sequence[SystemRow]) -> str:
    """How the recommended LMs were chosen."""
    return (
        f"Of {len(candidates(rows))} pruned LMs the one of the lowest WER within the budget "
        f"(sizes up to {100 * TOLERANCE:.0f} % beyond it). The choice is made on the test set, "
        "which favours what it chose; the intervals do not count that."
    )


def _best(rows: Sequence[SystemRow]) -> Optional[SystemRow]:
    def order(row: SystemRow) -> tuple[float, float, str]:
        return row.delta_percent or 0.0, row.size_bytes or 0, row.name

    return min(rows, key=order, default=None)


def _told(row: SystemRow, base: SystemRow) -> str:
    """Cost and speed of a row in words."""
    speed = speed_over(row, base)
    fast = "" if speed is None else f", {times(speed)} times as fast"
    if not row.measured_like(base):
        fast = f", speed {APART}"
    return f"WER {_delta(row)}{fast} ({verdict(row, base)})"


def _delta(row: SystemRow) -> str:
    return difference(row.delta_percent, row.delta_low, row.delta_high)
