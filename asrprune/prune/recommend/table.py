"""The study's numbers: what each plan cost and what it lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from asrprune.core.record import (
    OtherThan,
    Record,
    a_count,
    a_label,
    a_list,
    a_number,
    a_ratio,
    an_amount,
    read_record,
)
from asrprune.errors import InputError
from asrprune.files import PathLike

STUDY = Path(__file__).with_name("study.json")
"""The table that the package holds."""
FORMAT, VERSION = "asrprune-study-table", 1

Estimate = tuple[float, float, float]
"""A value and its 95 % interval."""


@dataclass(frozen=True, order=True)
class Family:
    """Plans that differ in their size only, of one LM. ``budget``: fine-tuning tokens over those of
    the LM's training."""

    lm: str
    method: str
    criterion: str
    schedule: str
    budget: float


@dataclass(frozen=True)
class Row:
    """A plan as it was measured. ``parameters``, ``prunable`` and ``training_tokens`` are those of
    the dense LM; ``sparsity`` is of ``prunable``. ``bytes_share``: of the dense LM's weights file;
    ``perplexity_ratio`` and ``wer_difference`` (points) to the dense LM; ``speed_ratio``: times as
    fast as the dense LM."""

    family: Family
    parameters: int
    prunable: int
    training_tokens: int
    sparsity: float
    bytes_share: float
    perplexity_ratio: Estimate
    wer_difference: Optional[Estimate]
    speed_ratio: Optional[float]


def read_study_table(path: PathLike = STUDY) -> tuple[Row, ...]:
    """The rows of a table. Raises InputError naming what is wrong with it, and one without rows."""
    record = read_record(path).check_format(FORMAT, VERSION, "a table of recipes/study")
    rows = tuple(_row(part) for part in record.parts("rows"))
    if not rows:
        raise InputError(path, None, "no rows", "one at least")
    return rows


def _row(part: Record) -> Row:
    return Row(
        Family(
            part.get("lm", a_label),
            part.get("method", a_label),
            part.get("criterion", a_label),
            part.get("schedule", a_label),
            part.get("budget", an_amount),
        ),
        part.get("parameters", a_count),
        part.get("prunable", a_count),
        part.get("training_tokens", a_count),
        part.get("sparsity", a_ratio),
        part.get("bytes_share", a_ratio),
        part.get("perplexity_ratio", _an_estimate_of_a_ratio),
        part.find("wer_difference", _an_estimate),
        part.find("speed_ratio", a_ratio),
    )


def _an_estimate_of_a_ratio(value: Any) -> Estimate:
    """The same, all above 0."""
    if min(_an_estimate(value)) <= 0.0:
        raise OtherThan("[value, low, high] above 0")
    return _an_estimate(value)


def _an_estimate(value: Any) -> Estimate:
    """A value and the ends of its interval."""
    numbers: Sequence[float] = [a_number(one) for one in a_list(value)]
    if len(numbers) != 3 or not numbers[1] <= numbers[0] <= numbers[2]:
        raise OtherThan("[value, low, high]")
    return numbers[0], numbers[1], numbers[2]
