"""What the study measured: a row for each LM, plan and size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from asrprune.core.record import (
    OtherThan,
    Record,
    a_count,
    a_list_of,
    a_name,
    a_number,
    a_ratio,
    a_string,
    an_amount,
    one_of,
    read_record,
)
from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.methods import METHODS
from asrprune.prune.run.schedules import SCHEDULES

STUDY = Path(__file__).with_name("study.json")
Interval = tuple[float, float, float]
"""Mean and the ends of its 95 % interval: mean, low, high."""
ZEROS = {
    "embedding": "options.embedding_sparsity",
    "positions": "options.positions_sparsity",
}
"""Table of an LM -> the setting by which it gets zeros."""
Family = tuple[str, Optional[str], Optional[str], float]
"""Method, criterion, schedule, and fine-tuning tokens as a share of the training tokens."""


@dataclass(frozen=True)
class Row:
    """A pruned LM. ``sparsity``: share of the prunable weights removed; ``perplexity_ratio`` to the
    dense LM; ``wer_difference`` to it in points, negative for fewer errors; ``speed_ratio``: times
    as fast as it. ``settings`` (KEY=VALUE of ``prune --set``) and ``statistics_tokens``: what it
    was pruned with beside the plan. ``bytes`` of its weights file, ``dense_bytes`` of the dense
    LM's; None in tables of before."""

    lm: str
    parameters: int
    training_tokens: int
    family: Family
    sparsity: float
    perplexity_ratio: Interval
    wer_difference: Optional[Interval]
    speed_ratio: Optional[float]
    settings: tuple[str, ...] = ()
    statistics_tokens: Optional[int] = None
    bytes: Optional[int] = None
    dense_bytes: Optional[int] = None

    @property
    def zeros(self) -> dict[str, float]:
        """Table of the LM -> the share of its weights that became zero, of those that got any."""
        told = dict(one.split("=", 1) for one in self.settings)
        shares = {table: float(told.get(key, 0.0)) for table, key in ZEROS.items()}
        return {table: share for table, share in shares.items() if share}


def read_table(path: Optional[PathLike] = None) -> list[Row]:
    """The rows of the table ``path``, or of the packaged one. Raises InputError."""
    if path is None and not STUDY.exists():
        expected = "it, from a version with the study's results, or --table FILE"
        raise InputError(STUDY, None, "the study's table is not in this version", expected)
    path = STUDY if path is None else path
    record = read_record(path).check_format("asrprune-study-table", 1, "a table of the study")
    rows = [_row(part) for part in record.parts("rows")]
    if not rows:
        raise InputError(path, None, "no rows", "one for each pruned LM of the study")
    keys = [(row.lm, row.family, row.zeros, row.sparsity) for row in rows]
    for number, key in enumerate(keys):
        if key in keys[:number]:
            raise InputError(path, None, f"rows[{number}] has the plan of another", "each once")
    return rows


def _row(record: Record) -> Row:
    return Row(
        record.get("lm", a_name),
        _positive(record, "parameters"),
        _positive(record, "training_tokens"),
        (
            record.get("method", one_of(*METHODS)),
            record.find("criterion", one_of(*CRITERIA)),
            record.find("schedule", one_of(*SCHEDULES)),
            record.get("budget", an_amount),
        ),
        record.get("sparsity", _sparsity),
        record.get("perplexity_ratio", _ratios),
        record.find("wer_difference", _interval),
        record.find("speed_ratio", a_ratio),
        record.find("set", a_list_of(_setting)) or (),
        record.find("statistics_tokens", a_count),
        record.find("bytes", a_count),
        record.find("dense_bytes", a_count),
    )


def _positive(record: Record, key: str) -> int:
    count = record.get(key, a_count)
    if count == 0:
        raise InputError(record.path, None, f"{record.where}{key} is 0", "a whole number > 0")
    return count


def _sparsity(value: Any) -> float:
    if not 0 < a_number(value) <= 1:
        raise OtherThan("a number > 0 and <= 1")
    return a_number(value)


def _setting(value: Any) -> str:
    if not re.fullmatch(r"[a-z0-9_.]+=[A-Za-z0-9_.+-]+", a_string(value)):
        raise OtherThan("KEY=VALUE as prune --set takes it")
    key, _, number = value.partition("=")
    if key in ZEROS.values() and not re.fullmatch(r"0(\.\d+)?", number, re.ASCII):
        raise OtherThan(f"{key} of 0 or more and less than 1")
    return a_string(value)


def _interval(value: Any) -> Interval:
    values = a_list_of(a_number)(value)
    if len(values) != 3 or not values[1] <= values[0] <= values[2]:
        raise OtherThan("[mean, low, high]")
    return values[0], values[1], values[2]


def _ratios(value: Any) -> Interval:
    if _interval(value)[1] <= 0:
        raise OtherThan("[mean, low, high], all > 0")
    return _interval(value)
