"""What the oracle of a run folder adds to a report: its row and its error by depth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from asrprune.core.units import COUNTED
from asrprune.errors import InputError
from asrprune.report.readings import OracleReading, read_oracle
from asrprune.report.rows import SystemRow

ORACLE, ORACLE_LISTS = "oracle.json", "oracle-lists.json"


class Counted(NamedTuple):
    """What the references ``ref`` hold; ``words`` counts their units, ``unit`` of UNITS."""

    ref: str
    utterances: int
    words: int
    unit: str


def oracle_columns(row: SystemRow, folder: Path, counted: Counted) -> SystemRow:
    """The row with the oracle WER, and that of lists where there is one. Raises InputError for
    one that was not counted on the references."""
    oracle = _read(folder / ORACLE, counted)
    row = replace(
        row,
        kind="oracle",
        wer_percent=oracle.wer_percent,
        wer_low=oracle.low,
        wer_high=oracle.high,
    )
    if not (folder / ORACLE_LISTS).is_file():
        return row
    oracle = _read(folder / ORACLE_LISTS, counted)
    return replace(
        row,
        wer_lists_percent=oracle.wer_percent,
        wer_lists_low=oracle.low,
        wer_lists_high=oracle.high,
    )


def oracle_curves(folder: Path) -> dict[str, tuple[tuple[int, float], ...]]:
    """Name -> (depth, WER) of the oracles of a folder."""
    files = {folder.name: ORACLE, f"{folder.name} (lists)": ORACLE_LISTS}
    there = {name: folder / file for name, file in files.items() if (folder / file).is_file()}
    return {name: read_oracle(path).curve for name, path in there.items()}


def _read(path: Path, counted: Counted) -> OracleReading:
    """The oracle at ``path``. What a file does not say is not checked, nor is the number of words
    where some were put into another form or left out."""
    oracle = read_oracle(path)
    if oracle.unit not in (None, counted.unit):
        found, expected = COUNTED[oracle.unit], f"{COUNTED[counted.unit]}, as in this report"
        raise InputError(path, None, f"errors of {found}", expected)
    stated = oracle.utterances, oracle.words
    for number, there, what in zip(stated, counted[1:3], ("utterances", COUNTED[counted.unit])):
        if number not in (None, there) and (what == "utterances" or oracle.plain):
            expected = f"{there}, as in {counted.ref}"
            raise InputError(path, None, f"an oracle of {number} {what}", expected)
    return oracle
