"""The report is made of what stands in the run folders."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import pytest

import asrprune.report.rows
from asrprune.cli.main import main
from asrprune.report.plots import PLOTS, pareto_svg
from asrprune.report.rows import SystemRow
from asrprune.report.tables import markdown_table

REF = {"u1": "a b c d", "u2": "e f", "u3": ""}
HYPS = {
    "first": {"u1": "a x c", "u2": "e f", "u3": ""},
    "dense": {"u1": "a b c d", "u2": "e f", "u3": ""},
    "pruned": {"u1": "a b c", "u2": "e f", "u3": ""},
}
BENCHES: dict[str, dict[str, Any]] = {
    "dense": {
        "parameters": 2_000_000,
        "nonzero_parameters": 2_000_000,
        "size_bytes": 8_000_000,
        "history": [],
        "systems": [{"rtf": 0.02}],
    },
    "pruned": {
        "parameters": 2_000_000,
        "nonzero_parameters": 500_000,
        "size_bytes": 2_500_000,
        "history": [
            {
                "criterion": "taylor",
                "method": "unstructured",
                "schedule": "cubic",
                "measured": 0.75,
                "masks": True,
            }
        ],
        "systems": [{"rtf": 0.02}],
    },
}


def _write_text(path: Path, texts: dict[str, str]) -> None:
    path.write_text("".join(f"{utt} {text}".strip() + "\n" for utt, text in texts.items()))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three run folders, an oracle, a reference and the decoder's file."""
    for name, texts in HYPS.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        _write_text(tmp_path / "runs" / name / "hyp", texts)
    for name, bench in BENCHES.items():
        (tmp_path / "runs" / name / "bench.json").write_text(json.dumps(bench))
        (tmp_path / "runs" / name / "perplexity.json").write_text('{"ppl_word": 100.0}')
    search = {"search_wall_s": 1.0, "audio_s": 100.0}
    (tmp_path / "runs" / "dense" / "rescore.json").write_text(json.dumps(search))
    _write_text(tmp_path / "runs" / "dense" / "hyp-fixed", HYPS["pruned"])
    (tmp_path / "runs" / "oracle").mkdir()
    oracle = {"depths": [{"depth": 100, "wer_percent": 1.5, "interval_percent": [1.0, 2.0]}]}
    (tmp_path / "runs" / "oracle" / "oracle.json").write_text(json.dumps(oracle))
    _write_text(tmp_path / "ref", REF)
    decoder = {
        "rtf_per_process": 0.3,
        "utterances": 3,
        "audio_s": 9.0,
        "identity": {"decoder": "pocketsphinx"},
    }
    (tmp_path / "first_pass.json").write_text(json.dumps(decoder))
    return tmp_path


def _report(base: Path, *more: str) -> int:
    names = ("first", "oracle", "dense", "pruned")
    folders = [str(base / "runs" / name) for name in names]
    command = ["report", "--runs", *folders, "--ref", str(base / "ref")]
    command += ["--first-pass", str(base / "first_pass.json"), "--out", str(base / "out")]
    return main([*command, *more])


def test_rows_hold_what_the_files_say(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _report(runs, "--baseline", "dense", "--fact", "machine=two cores") == 0
    rows = {row["name"]: row for row in json.loads((runs / "out/table.json").read_text())["rows"]}
    assert rows["first"]["kind"] == "first pass"
    assert rows["first"]["wer_percent"] == pytest.approx(100 * 2 / 6)
    assert rows["first"]["total_rtf"] == pytest.approx(0.3)
    assert rows["oracle"]["wer_percent"] == 1.5
    assert rows["dense"]["wer_percent"] == 0.0
    assert rows["dense"]["delta_percent"] is None
    assert rows["dense"]["total_rtf"] == pytest.approx(0.3 + 0.02 + 0.01)
    assert rows["dense"]["wer_fixed_percent"] == pytest.approx(100 / 6)
    pruned = rows["pruned"]
    assert pruned["delta_percent"] == pytest.approx(100 / 6)
    assert (pruned["method"], pruned["sparsity"]) == ("unstructured", 0.75)
    assert pruned["note"] == "sparse, not faster"
    shown = capsys.readouterr().out
    assert shown.startswith((runs / "out/table.md").read_text())
    page = (runs / "out/index.html").read_text()
    assert page.count("<svg") == len(PLOTS)
    assert "<dt>machine</dt><dd>two cores</dd>" in page  # over what provenance says
    assert "pocketsphinx, 3 utterances, 9 s of audio, RTF 0.300 in one process" in page
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda base: (base / "runs/dense/hyp").unlink(), "no file hyp or oracle.json"),
        (lambda base: (base / "runs/dense/hyp").write_text("u1 a\n"), "u2"),
        (lambda base: (base / "first_pass.json").write_text('{"rtf_per_process": "x"}'), "is 'x'"),
    ],
)
def test_bad_runs_are_one_line(
    runs: Path, spoil: Any, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(runs)
    assert _report(runs) == 1
    error = capsys.readouterr().err
    assert found in error
    assert error.count("\n") == 1
    assert not (runs / "out").exists()


def test_unknown_baseline_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _report(runs, "--baseline", "nobody") == 1
    assert "no such run" in capsys.readouterr().err


def test_empty_columns_are_left_out() -> None:
    table = markdown_table([SystemRow("one", "dense", wer_percent=1.0)])
    assert table.splitlines()[0].split("|")[1:-1] == [" system ", " WER % [95 %] "]


def test_too_few_points_give_no_plot() -> None:
    assert (
        pareto_svg([SystemRow("one", "dense", wer_percent=1.0, size_bytes=5)], "wer-size") is None
    )


def test_pareto_front_example() -> None:
    assert doctest.testmod(asrprune.report.rows).failed == 0


def test_the_first_pass_is_drawn_as_a_line_with_its_name() -> None:
    rows = [
        SystemRow("first", "first pass", wer_percent=20.0),
        SystemRow("a", "dense", wer_percent=10.0, wer_low=9.0, wer_high=11.0, size_bytes=5),
        SystemRow("b", "pruned", wer_percent=12.0, wer_low=9.0, wer_high=13.0, size_bytes=3),
    ]
    svg = pareto_svg(rows, "wer-size")
    assert svg is not None
    assert "<!-- first pass -->" in svg
    assert svg.count("<!-- dense -->") == 1
