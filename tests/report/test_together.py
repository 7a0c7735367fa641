"""Speeds are compared where both were measured in one run, or under the same conditions."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import pytest

from asrprune.cli.main import main

RUN = {"times_hash": "a1", "nbest_hash": "b2", "padded_lm_hash": "c3"}
MACHINE = {"processor": "P", "flags": ["avx2"], "cores": 2, "system": "Linux x86_64"}
BENCH = {
    "parameters": 20,
    "size_bytes": 1000,
    "engine": "int8",
    "device": "cpu",
    "threads": 1,
    "history": [],
    "systems": [{"rtf": 0.04, "audio_s": 10.5}],
    "machine": MACHINE,
    "known": {"words": 151},
    "times_padded": {"lm": "dense", "ratios": [2.0]},
    "run": RUN,
    "provenance": {"command": "asrprune bench --system dense=lm small=small"},
}
SMALL = {"size_bytes": 400, "history": [{"method": "structured", "measured": 0.5}]}
SMALL |= {"systems": [{"rtf": 0.01, "audio_s": 10.5}]}
SMALL |= {"times_padded": {"lm": "dense", "ratios": [10.0]}}
OLD: dict[str, Any] = {"run": None}
"""A file without hashes."""
ANOTHER: dict[str, Any] = {"run": {**RUN, "times_hash": "d4"}, "provenance": {"command": "another"}}
"""A file of another run."""


def _told(base: Path, dense: dict[str, Any], small: dict[str, Any]) -> tuple[str, str, list[str]]:
    """Verdict, page and speed budgets of a report on a dense and a pruned LM."""
    (base / "ref").write_text("u1 a b\nu2 c d\n")
    for name, change in (("dense", dense), ("small", {**SMALL, **small})):
        (base / name).mkdir(exist_ok=True)
        (base / name / "hyp").write_text("u1 a b\nu2 c d\n")
        (base / name / "bench.json").write_text(json.dumps({**BENCH, **change}))
    argv = ["report", "--runs", str(base / "dense"), str(base / "small"), "--baseline", "dense"]
    argv += ["--front", "small", "dense"]
    assert main([*argv, "--ref", str(base / "ref"), "--out", str(base / "out")]) == 0
    table = json.loads((base / "out/table.json").read_text())
    budgets = [name for name in table["recommended"] if "fast" in name]
    return table["verdict"], (base / "out/index.html").read_text(), budgets


@pytest.mark.parametrize(
    ("dense", "small", "speed"),
    [
        ({}, {}, 5),
        ({}, {"engine": "torch", "threads": 2, "device": "cuda"}, 5),  # of one run
        ({}, ANOTHER, 5),
        ({}, {**ANOTHER, "times_padded": None}, 4),
        ({}, {**ANOTHER, "times_padded": {"lm": "small", "ratios": [3.0]}}, 4),
        ({}, {**ANOTHER, "run": {**RUN, "times_hash": "d4", "padded_lm_hash": "e5"}}, 4),
        ({}, {**ANOTHER, "machine": {**MACHINE, "cores": 1}}, 5),
        ({}, OLD, 5),
        (OLD, OLD, 5),
        (OLD, {**OLD, "engine": "torch"}, 5),  # chosen by the same command
    ],
)
def test_what_was_measured_alike_is_compared(
    dense: dict[str, Any],
    small: dict[str, Any],
    speed: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    verdict, page, budgets = _told(tmp_path, dense, small)
    assert f", {speed}.0 times as fast (" in verdict
    assert budgets == ["2 times as fast", "5 times as fast"][: 1 + (speed == 5)]
    assert "measured together" not in caplog.text
    beside = "10.0 times as fast as the dense LM's padded fp32 batch (dense itself: 2.0)"
    assert (beside in html.unescape(page)) == (speed == 5)


@pytest.mark.parametrize(
    ("dense", "small", "why"),
    [
        ({}, {**ANOTHER, "run": {**RUN, "times_hash": "d4", "nbest_hash": "f6"}}, "other lists"),
        ({}, {**ANOTHER, "machine": {**MACHINE, "processor": "Q"}}, "another processor"),
        ({}, {**ANOTHER, "machine": None}, "another processor"),
        ({}, {**ANOTHER, "device": "cuda"}, "device cuda instead of cpu"),
        ({}, {**ANOTHER, "threads": 2}, "2 threads instead of 1"),
        ({}, {**ANOTHER, "engine": "torch"}, "engine torch instead of int8"),
        (OLD, {**OLD, "systems": [{"rtf": 0.01, "audio_s": 3.0}]}, "other lists"),
        (OLD, {**OLD, "known": {"words": 9}}, "other lists"),
        (
            {**OLD, "machine": None},
            {**ANOTHER, "machine": None},
            "a processor that is not stated",
        ),
    ],
)
def test_what_was_not_is_said_and_not_compared(
    dense: dict[str, Any],
    small: dict[str, Any],
    why: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    verdict, page, budgets = _told(tmp_path, dense, small)
    assert ", speed not measured together (" in verdict
    assert "times as fast (" not in verdict
    assert budgets == []
    assert ">not measured together<" in page
    assert "times as fast as the dense LM's" not in html.unescape(page)
    assert "<h3>WER and speed</h3><figure" not in page
    (line,) = [one.getMessage() for one in caplog.records if "speeds" in one.getMessage()]
    assert line == f"speeds not measured together with dense, and not compared: small: {why}"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({"run": {**RUN, "times_hash": "d4"}, "engine": "torch", "threads": 2}, ""),
        ({**ANOTHER, "machine": {**MACHINE, "processor": "Q"}}, "of several processors"),
        ({"run": {**RUN, "times_hash": "d4", "nbest_hash": "f6"}}, "of several sets of lists"),
        ({**OLD, "known": {"words": 9}}, "of several sets of lists"),
    ],
)
def test_times_of_one_system_add_up_where_they_were_measured_alike(
    change: dict[str, Any], told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ref").write_text("u1 a b\nu2 c d\n")
    for name, second in (("dense", None), ("two", {**SMALL, **change})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hyp").write_text("u1 a b\nu2 c d\n")
        (tmp_path / name / "bench.json").write_text(json.dumps(BENCH))
        if second is not None:
            (tmp_path / name / "bench-1.json").write_text(json.dumps({**BENCH, **second}))
    argv = ["report", "--runs", str(tmp_path / "dense"), str(tmp_path / "two")]
    argv += ["--baseline", "dense", "--ref", str(tmp_path / "ref"), "--out", str(tmp_path / "out")]
    assert main(argv) == 0
    rows = json.loads((tmp_path / "out/table.json").read_text())["rows"]
    (row,) = [row for row in rows if row["name"] == "two"]
    assert row["lm_rtf"] == (None if told else pytest.approx(0.05))
    assert row["size_bytes"] == 1400
    whole = f"{tmp_path / 'two'}: its bench files are {told}: their times do not add up"
    assert (whole in caplog.messages) == bool(told)
