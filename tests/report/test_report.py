"""The report is made of what stands in the run folders."""

from __future__ import annotations

import doctest
import html
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import asrprune.report.rows
from asrprune.cli.main import main
from asrprune.errors import InputError
from asrprune.report.rows import SystemRow
from asrprune.report.table_file import read_table
from asrprune.report.tables import markdown_table
from asrprune.wer.score import plain_refs

REF = {"u1": "a b c d", "u2": "e f", "u3": ""}
HYPS = {
    "first": {"u1": "a x c", "u2": "e f", "u3": ""},
    "dense": {"u1": "a b c d", "u2": "e f", "u3": ""},
    "pruned": {"u1": "a b c", "u2": "e f", "u3": ""},
}
RUN = {"times_hash": "a1", "nbest_hash": "b2", "padded_lm_hash": "c3"}
BENCHES: dict[str, dict[str, Any]] = {
    "dense": {
        "parameters": 2_000_000,
        "nonzero_parameters": 2_000_000,
        "size_bytes": 8_000_000,
        "history": [],
        "systems": [{"rtf": 0.02}],
        "run": RUN,
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
        "run": RUN,
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
    for plot in ("WER and size", "WER and time", "WER and perplexity"):
        assert f"<h3>{plot}</h3><figure" in page
    assert "<dt>machine</dt><dd>two cores</dd>" in page  # over what provenance says
    assert "pocketsphinx, 3 utterances, 9 s of audio, RTF 0.300 in one process" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda base: (base / "runs/dense/hyp").unlink(), "no file hyp or oracle.json"),
        (lambda base: (base / "runs/dense/hyp").write_text("u1 a\n"), "u2"),
        (lambda base: (base / "first_pass.json").write_text('{"rtf_per_process": "x"}'), 'is "x"'),
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


def _add_speed_lists_and_weights(base: Path) -> None:
    """What the runs of a recipe hold too."""
    speeds = {"dense": ("onnx", [4.0, 2.0, 3.0]), "pruned": ("int8", [8.0, 9.0, 7.0])}
    for name, (engine, ratios) in speeds.items():
        more = {
            "engine": engine,
            "times_padded": {"lm": "dense", "ratios": ratios},
            "machine": {"processor": "Some CPU", "flags": ["avx2"], "cores": 2},
            "training_precision": "fp32",
        }
        path = base / "runs" / name / "bench.json"
        path.write_text(json.dumps({**BENCHES[name], **more}))
        weights = {"acoustic": 1.0, "first_lm": 0.5, "lm": [0.25], "word_bonus": -0.125}
        dev = {"intervals": {"acoustic": [0.5, 2], "lm": [[0.125, 0.375]]}}
        file = {"weights": weights, "lms": [name], "dev": dev}
        (base / "runs" / name / "weights.json").write_text(json.dumps(file))
    _write_text(base / "runs/dense/hyp-lists", HYPS["pruned"])
    _write_text(base / "runs/pruned/hyp-lists", HYPS["first"])
    oracle = {"depths": [{"wer_percent": 2.5, "interval_percent": [2.0, 3.0]}]}
    (base / "runs/oracle/oracle-lists.json").write_text(json.dumps(oracle))
    both = base / "runs/both"
    both.mkdir()
    _write_text(both / "hyp", HYPS["dense"])
    for name in speeds:
        (both / f"bench-{name}.json").write_text((base / f"runs/{name}/bench.json").read_text())


def test_words_from_lists_speed_and_weights_are_columns(runs: Path) -> None:
    _add_speed_lists_and_weights(runs)
    assert _report(runs, "--runs", str(runs / "runs/both"), "--baseline", "dense") == 0
    table = json.loads((runs / "out/table.json").read_text())
    rows = {row["name"]: row for row in table["rows"]}
    assert rows["dense"]["wer_lists_percent"] == pytest.approx(100 / 6)
    assert rows["dense"]["delta_lists_percent"] is None
    assert rows["pruned"]["wer_lists_percent"] == pytest.approx(200 / 6)
    assert rows["pruned"]["delta_lists_percent"] == pytest.approx(100 / 6)
    assert rows["pruned"]["delta_lists_low"] <= 100 / 6 <= rows["pruned"]["delta_lists_high"]
    assert 0 < rows["pruned"]["delta_lists_p"] <= 1
    assert rows["pruned"]["words"] == 6
    assert rows["oracle"]["wer_lists_percent"] == 2.5
    assert rows["first"]["wer_lists_percent"] is None
    assert (rows["dense"]["times_padded"], rows["dense"]["padded_lm"]) == (3.0, "dense")
    assert (rows["dense"]["times_padded_low"], rows["dense"]["times_padded_high"]) == (2.0, 4.0)
    turns = sorted(1 / (1 / a + 1 / b) for a, b in ((4, 8), (2, 9), (3, 7)))
    both = [rows["both"][f"times_padded{end}"] for end in ("_low", "", "_high")]
    assert both == pytest.approx(turns)
    assert rows["both"]["engine"] == "onnx + int8"
    assert table["measured"]["machine"]["flags"] == ["avx2"]
    assert table["measured"]["training_precision"] == "fp32"
    assert (table["front"], table["sentences"]) == (None, [])
    read = read_table(runs / "out/table.json")
    assert [json.loads(json.dumps(asdict(row))) for row in read.rows] == table["rows"]
    assert read.measured is not None
    assert read.measured.training_precision == "fp32"
    assert (read.baseline, read.front) == ("dense", ())
    page = (runs / "out/index.html").read_text()
    for cell in (
        ">WER on lists [95 %]</th>",
        ">lists vs baseline</th>",
        '>3.0 <span class="interval">[2.0, 4.0]</span></td>',
        '>0.25 <span class="interval">[0.125, 0.375]</span></td>',
        ">-0.125</td>",
        "<dd>Some CPU, with avx2, 2 cores</dd>",
        "padded fp32 batch of dense",
    ):
        assert cell in page, cell
    assert "Main systems" not in page


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"wer_percent": "low"}, 'rows[0].wer_percent is "low"; expected a number'),
        ({"words": 1.5}, "rows[0].words is 1.5; expected a whole number"),
        ({"name": None}, "rows[0].name is null; expected one line of text"),
        ({"note": 3}, "rows[0].note is 3; expected one line of text, or none"),
        ({"weights": [{"name": "lm"}]}, "rows[0].weights[0].value is missing"),
    ],
)
def test_a_table_that_was_edited_wrongly_is_refused(
    change: dict[str, Any], found: str, tmp_path: Path
) -> None:
    row = {"name": "dense", "kind": "dense", "wer_percent": 1.0}
    (tmp_path / "table.json").write_text(json.dumps({"rows": [row]}))
    assert read_table(tmp_path / "table.json").rows == (SystemRow("dense", "dense", wer_percent=1),)
    (tmp_path / "table.json").write_text(json.dumps({"rows": [{**row, **change}]}))
    with pytest.raises(InputError, match=re.escape(found)):
        read_table(tmp_path / "table.json")


def test_ratios_of_other_yardsticks_do_not_add_up(runs: Path) -> None:
    _add_speed_lists_and_weights(runs)
    path = runs / "runs/both/bench-pruned.json"
    for times in ({"lm": "pruned", "ratios": [8.0, 9.0, 7.0]}, {"lm": "dense", "ratios": [8.0]}):
        path.write_text(json.dumps({**json.loads(path.read_text()), "times_padded": times}))
        assert _report(runs, "--runs", str(runs / "runs/both")) == 0
        rows = json.loads((runs / "out/table.json").read_text())["rows"]
        assert [row["times_padded"] for row in rows if row["name"] == "both"] == [None]


def test_the_front_comes_first_and_everything_below(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _add_speed_lists_and_weights(runs)
    assert _report(runs, "--baseline", "dense", "--front", "pruned", "dense") == 0
    table = json.loads((runs / "out/table.json").read_text())
    assert table["front"] == ["pruned", "dense"]
    assert table["baseline"] == "dense"
    assert [row["name"] for row in table["rows"]] == ["first", "oracle", "dense", "pruned"]
    (said,) = table["sentences"]
    assert said.startswith("A third of the dense LM's bytes (2.50 MB, pruned): WER +16.67 [+0.00, ")
    assert "8.0 times as fast as the dense LM's padded fp32 batch (dense itself: 3.0)" in said
    text = (runs / "out/table.md").read_text()
    assert capsys.readouterr().out.startswith(text)
    lines = text.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:4]] == ["pruned", "dense"]
    assert "LM RTF" not in lines[0]
    assert lines[4] == ""
    assert " ".join(line.strip() for line in lines[5:]) == f"- {said}"
    assert max(map(len, lines[5:])) <= 100
    first, below = (runs / "out/index.html").read_text().split("<h2>All systems</h2>")
    first = first.split("<h2>Main systems</h2>")[1]
    assert first.count("<tr class=") == 2
    assert said in html.unescape(first)
    assert "LM RTF" in below
    assert ">oracle</th>" in below
    assert ">oracle</th>" not in first


def test_a_front_without_such_a_run_is_refused(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _report(runs, "--front", "dense", "nobody") == 1
    assert "nobody: no such run; expected names for --front" in capsys.readouterr().err
    assert not (runs / "out").exists()


def test_unknown_baseline_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _report(runs, "--baseline", "nobody") == 1
    assert "no such run" in capsys.readouterr().err


def test_empty_columns_are_left_out() -> None:
    table = markdown_table([SystemRow("one", "dense", wer_percent=1.0)])
    assert table.splitlines()[0].split("|")[1:-1] == [" system ", " WER % [95 %] "]


def test_pareto_front_example() -> None:
    assert doctest.testmod(asrprune.report.rows).failed == 0


@pytest.mark.parametrize(
    ("unit", "rate", "percent"), [("word", "WER", 50.0), ("char", "CER", 20.0)]
)
def test_errors_are_counted_in_the_unit(
    unit: str, rate: str, percent: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "ref").write_text("u1 今天 下雨了\n", encoding="utf-8")
    (tmp_path / "run/hyp").write_text("u1 今天 下雪了\n", encoding="utf-8")
    command = ["report", "--runs", tmp_path / "run", "--ref", tmp_path / "ref", "--unit", unit]
    assert main([*map(str, command), "--out", str(tmp_path / "out")]) == 0
    assert f"{rate} % [95 %]" in capsys.readouterr().out
    table = json.loads((tmp_path / "out/table.json").read_text())
    assert (table["unit"], table["rows"][0]["wer_percent"]) == (unit, percent)


def test_the_page_says_what_was_counted(runs: Path) -> None:
    more = ("--baseline", "dense", "--front", "first", "dense", "pruned")
    for unit, counted, other in (("char", "characters", "words"), ("word", "words", "characters")):
        assert _report(runs, *more, "--unit", unit) == 0
        page = (runs / "out/index.html").read_text()
        assert f"6 {counted} of test" in page
        assert f'<th scope="col">{counted}</th>' in page
        assert f"6 {other}" not in page
        rate = {"words": "WER", "characters": "CER"}
        sentences = " ".join(json.loads((runs / "out/table.json").read_text())["sentences"])
        assert rate[counted] in sentences
        assert rate[other] not in sentences


def test_references_may_be_a_trn_and_of_another_case_is_told_once(
    runs: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = runs / "ref"
    ref.write_text("".join(f"{text.upper()} ({utt})\n" for utt, text in REF.items()))
    assert _report(runs) == 0
    told, few = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert few.startswith(f"{ref}: {len(REF)} utterances: intervals over fewer than 20 are too na")
    assert told.startswith(f"{runs / 'runs/first/hyp'}: references are upper case, hypotheses lo")
    assert told.endswith("write both in one form first (wer has --ignore-case)")
    fact = told.partition("hyp: ")[2]
    facts = json.loads((runs / "out/table.json").read_text())["facts"]
    assert facts["references and words"] == fact
    assert html.escape(fact) in (runs / "out/index.html").read_text()
    caplog.clear()
    ref.write_text("".join(f"{text} ({utt})\n" for utt, text in REF.items()))
    assert _report(runs) == 0
    assert caplog.messages == [few]
    facts = json.loads((runs / "out/table.json").read_text())["facts"]
    assert "references and words" not in facts
    rows = {row["name"]: row for row in json.loads((runs / "out/table.json").read_text())["rows"]}
    assert rows["dense"]["wer_percent"] == 0.0
    capsys.readouterr()
    ref.write_text("a { b / c } (u1)\nd (u2)\n")
    assert _report(runs) == 1
    expected = "utterance u1: alternatives; expected plain words, one reading"
    assert capsys.readouterr().err.splitlines()[-1] == f"asrprune report: {ref}:1: {expected}"


def test_segments_that_are_not_scored_are_left_out_of_words(runs: Path) -> None:
    line = "{} 1 spk {}.0 {}.5 <o> {}\n"
    texts = [*REF.values(), "ignore_time_segment_in_scoring"]
    ref = "".join(line.format("a", n, n, text) for n, text in enumerate(texts))
    (runs / "ref").write_text(ref)
    utts = list(plain_refs(runs / "ref").texts)
    for name, hyps in HYPS.items():
        (runs / "runs/dense/hyp-fixed").unlink(missing_ok=True)
        _write_text(runs / "runs" / name / "hyp", dict(zip(utts, hyps.values())))
    ignored = plain_refs(runs / "ref").ignored
    with (runs / "runs/dense/hyp").open("a") as stream:
        stream.writelines(f"{utt} noise\n" for utt in ignored)
    assert len(ignored) == 1
    assert _report(runs) == 0
    rows = {row["name"]: row for row in json.loads((runs / "out/table.json").read_text())["rows"]}
    assert (rows["dense"]["wer_percent"], rows["dense"]["words"]) == (0.0, 6)


def _weights(path: Path, *lms: str) -> None:
    weights = {"acoustic": 1.0, "first_lm": 0.5, "word_bonus": 0.0, "lm": [0.3] * len(lms)}
    path.write_text(json.dumps({"lms": lms, "weights": weights}))


def test_no_rescored_run_is_called_the_first_pass(runs: Path) -> None:
    def rows(*more: str) -> dict[str, dict[str, Any]]:
        assert _report(runs, *more) == 0
        rows = json.loads((runs / "out/table.json").read_text())["rows"]
        return {row["name"]: row for row in rows}

    first, dense, pruned = (runs / "runs" / name for name in ("first", "dense", "pruned"))
    for name in BENCHES:
        (runs / "runs" / name / "bench.json").unlink()
    _weights(dense / "weights.json", "dense")
    found = rows("--baseline", "dense")
    kinds = {name: row["kind"] for name, row in found.items()}
    named = {"first": "first pass", "dense": "rescored", "pruned": "rescored", "oracle": "oracle"}
    assert kinds == named
    assert found["first"]["total_rtf"] == pytest.approx(0.3)
    assert found["dense"]["total_rtf"] is None  # how long its LM takes is unknown
    _weights(dense / "weights.json", "dense", "ngram")
    assert rows()["dense"]["kind"] == "combined"
    for run in (dense, pruned):
        for path in [*run.glob("*.json"), *run.glob("hyp-*")]:
            path.unlink()
    _weights(first / "weights.json", "dense")
    found = rows("--baseline", "dense")
    assert [found[name]["kind"] for name in HYPS] == ["rescored", "unknown", "unknown"]
    assert "first pass 33" not in (runs / "out/index.html").read_text()
    _weights(pruned / "weights.json", "pruned")
    assert rows("--baseline", "dense")["dense"]["kind"] == "unknown"
    assert rows()["dense"]["kind"] == "first pass"


def test_a_part_of_a_system_is_not_taken_for_the_whole(
    runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _add_speed_lists_and_weights(runs)
    both = runs / "runs/both"
    _weights(both / "weights.json", "dense", "pruned")
    more = ("--runs", str(both), "--baseline", "dense")
    assert _report(runs, *more) == 0
    assert json.loads((runs / "out/table.json").read_text())["rows"][-1]["lm_rtf"] == 0.04
    assert "bench files" not in caplog.text
    (both / "bench-dense.json").unlink()
    assert _report(runs, *more) == 0
    table = json.loads((runs / "out/table.json").read_text())
    row = table["rows"][-1]
    assert (row["name"], row["kind"], row["method"]) == ("both", "combined", None)
    unknown = ("parameters", "size_bytes", "lm_rtf", "total_rtf", "times_padded", "engine")
    assert [row[name] for name in unknown] == [None] * len(unknown)
    assert "both" not in table["recommended"].values()
    assert f"{both}: bench files of 1 of the 2 LMs of weights.json" in caplog.text
