"""``table.json``, the result table as data: ``asrprune report`` writes it, others read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Optional

from asrprune.core.record import (
    OtherThan,
    Record,
    a_count,
    a_label,
    a_list,
    a_list_of,
    a_name,
    a_number,
    a_truth,
    an_object,
    read_record,
)
from asrprune.files import PathLike
from asrprune.report.readings import MeasurementReading, read_machine
from asrprune.report.rows import SystemRow, Weight


@dataclass(frozen=True)
class ResultTable:
    """A finished report. ``front`` names the rows of its first screen, none where it had no such;
    ``facts`` were stated for it, ``measured`` is what the speeds were measured on, ``provenance``
    what the report was made by."""

    rows: tuple[SystemRow, ...]
    baseline: Optional[str] = None
    front: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    measured: Optional[MeasurementReading] = None
    provenance: Mapping[str, str] = field(default_factory=dict)


def read_table(path: PathLike) -> ResultTable:
    """The table in the file ``path``. Raises InputError naming the key that is not as expected."""
    record = read_record(path)
    measured = None
    if record.find("measured", an_object) is not None:
        part = record.part("measured")
        measured = MeasurementReading(read_machine(part), part.find("training_precision", a_name))
    return ResultTable(
        read_rows(record),
        record.find("baseline", a_label),
        record.find("front", a_list_of(a_label)) or (),
        read_texts(record, "facts"),
        measured,
        {key: str(value) for key, value in (record.find("provenance", an_object) or {}).items()},
    )


def read_texts(record: Record, key: str) -> dict[str, str]:
    """Label -> text of the object under ``key``; empty without one."""
    found = record.find(key, an_object)
    return {} if found is None else {one: record.part(key).get(one, a_label) for one in found}


def read_rows(record: Record, key: str = "rows") -> tuple[SystemRow, ...]:
    """The rows under ``key``: objects with the fields of SystemRow, those that are None or empty
    may be missing."""
    count = len(record.get(key, a_list))
    return tuple(_row(record.part(key, index)) for index in range(count))


def _row(record: Record) -> SystemRow:
    columns: dict[str, Any] = {"name": record.get("name", a_label)}
    columns["kind"] = record.get("kind", a_label)
    for column in fields(SystemRow):
        take = _TAKES.get(str(column.type))
        if take is not None:
            columns[column.name] = record.find(column.name, take)
    columns["note"] = record.find("note", _note) or ""
    count = len(record.find("weights", a_list) or ())
    columns["weights"] = tuple(_weight(record.part("weights", index)) for index in range(count))
    return SystemRow(**columns)


def _weight(record: Record) -> Weight:
    return Weight(
        record.get("name", a_label),
        record.get("value", a_number),
        record.find("low", a_number),
        record.find("high", a_number),
        record.find("is_lm", a_truth) or False,
    )


def _note(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise OtherThan("one line of text, or none")
    return value


_TAKES = {"Optional[str]": a_label, "Optional[int]": a_count, "Optional[float]": a_number}
