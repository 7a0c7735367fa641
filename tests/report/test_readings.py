"""Files of the verbs with anything in them: a report is made or the file is refused, no third."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from asrprune.cli.main import main
from asrprune.errors import InputError
from asrprune.report import readings
from asrprune.report.gather import (
    describe_first_pass,
    describe_machine,
    gather_runs,
    read_measurement,
)
from asrprune.report.page import html_page
from asrprune.report.rows import Weight
from asrprune.report.sections import report_sections
from asrprune.report.tables import markdown_table

STEP = {"criterion": "kfac", "method": "2:4", "schedule": "cubic", "measured": 0.5, "masks": True}
FILES: dict[str, tuple[Callable[[Path], Any], Any]] = {
    "bench.json": (
        readings.read_bench,
        {
            "parameters": 20,
            "nonzero_parameters": 10,
            "size_bytes": 99,
            "history": [{}, STEP],
            "systems": [{"rtf": 0.5, "audio_s": 2.0}, "another"],
            "engine": "onnx",
            "times_padded": {"lm": "dense", "ratios": [4.0, 2.0, 9.0], "median": 4.0},
            "machine": {
                "processor": "Some CPU @ 2 GHz",
                "flags": ["avx2"],
                "cores": 2,
                "memory_bytes": 2**34,
                "system": "Linux x86_64",
            },
            "training_precision": "fp32",
            "lm": "exp/lm",
            "threads": 2,
            "device": "cpu",
            "provenance": {"command": "asrprune bench", "commit": "abc-dirty", "more": 1},
            "run": {"times_hash": "a1", "nbest_hash": "b2", "padded_lm_hash": "c3"},
            "known": {"words": 151, "form": []},
        },
    ),
    "weights.json": (
        readings.read_weights,
        {
            "weights": {"acoustic": 1.0, "first_lm": 2.0, "lm": [3.0, 4.0], "word_bonus": -1.0},
            "lms": ["dense", "tiny.arpa (3-gram)"],
            "dev": {
                "intervals": {
                    "acoustic": [0.5, 1.5],
                    "first_lm": [1.0, 3.0],
                    "lm": [[2.0, 4.0], [3.0, 5.0]],
                    "word_bonus": [-2.0, 0.0],
                }
            },
        },
    ),
    "rescore.json": (readings.read_rescore, {"search_wall_s": 1.0, "audio_s": 4.0, "more": 1}),
    "perplexity.json": (
        readings.read_perplexity,
        {
            "ppl_word": 7.5,
            "sentences": 5,
            "empty_lines": 1,
            "words": 30,
            "oov_left_out": 2,
            "text_hash": "ab12",
        },
    ),
    "oracle.json": (
        readings.read_oracle,
        {
            "depths": [
                {},
                {"depth": 1, "wer_percent": 3.5},
                {"depth": 9, "wer_percent": 1.5, "interval_percent": [1.0, 2.0], "words": 3},
            ],
            "utterances": 2,
            "scoring": {"unit": "word", "options": []},
        },
    ),
    "oracle-lists.json": (
        readings.read_oracle,
        {"depths": [{"wer_percent": 2.5, "interval_percent": [2.0, 3.0]}]},
    ),
    "first_pass.json": (
        readings.read_first_pass,
        {
            "identity": {"decoder": "pocketsphinx"},
            "utterances": 3,
            "audio_s": 9.0,
            "rtf_per_process": 0.3,
        },
    ),
}
"""Name -> (reader, what the verb writes, as far as it is read)."""

JUNK: tuple[Any, ...] = (None, True, -1, 0, 1.5, 10**30, float("nan"), float("inf"), "x", "$\\x{")
JUNK += ("\ud800", "", [], {}, [[]], [None], [1.0], [2.0, 1.0], {"rtf": []}, [{"measured": "x"}])
RAW = ("", "null", "3", "[]", '"x"', "{", "[" * 200_000, "1" * 5000, '{"depths": [[]]}', "{} {}")


def _variants(value: Any) -> Iterator[Any]:
    """``value`` with each of its parts left out, or something else in its place."""
    yield from JUNK
    parts: Any = value if isinstance(value, dict) else range(len(value))
    for key in parts:
        less = copy.copy(value)
        del less[key]
        yield less
        inner = value[key]
        nested = _variants(inner) if isinstance(inner, (dict, list)) else iter(JUNK)
        for other in nested:
            changed = copy.copy(value)
            changed[key] = other
            yield changed


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run with every file."""
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "ref").write_text("u1 a b\nu2 c\n")
    (folder / "hyp").write_text("u1 a b\nu2 d\n")
    for name, (_, value) in FILES.items():
        (folder / name).write_text(json.dumps(value))
    return folder


def _report(run: Path) -> str:
    first_pass = readings.read_first_pass(run / "first_pass.json")
    gathered = gather_runs([run], run.parent / "ref", None, first_pass)
    rows, sections = gathered.rows, report_sections(gathered, None, {})
    machine = describe_machine(read_measurement([run]))
    facts = {"first pass": describe_first_pass(first_pass), **machine}
    page = html_page("title", rows, facts, sections=sections)
    return markdown_table(rows) + page + json.dumps([asdict(row) for row in rows], allow_nan=False)


def test_what_the_verbs_write_is_read(run: Path) -> None:
    read = {name: reader(run / name) for name, (reader, _) in FILES.items()}
    pruning = readings.PruningReading("kfac", "2:4", "cubic", 0.5, True)
    padded = readings.PaddedReading("dense", (4.0, 2.0, 9.0))
    machine = readings.MachineReading("Some CPU @ 2 GHz", ("avx2",), 2, 2**34, "Linux x86_64")
    assert read == {
        "bench.json": readings.BenchReading(
            20,
            10,
            99,
            0.5,
            pruning,
            "onnx",
            padded,
            machine,
            "fp32",
            "exp/lm",
            2,
            "cpu",
            {"command": "asrprune bench", "commit": "abc-dirty"},
            readings.RunReading("a1", "b2", "c3"),
            2.0,
            151,
        ),
        "weights.json": (
            Weight("acoustic", 1.0, 0.5, 1.5),
            Weight("first_lm", 2.0, 1.0, 3.0),
            Weight("dense", 3.0, 2.0, 4.0, True),
            Weight("tiny.arpa (3-gram)", 4.0, 3.0, 5.0, True),
            Weight("word_bonus", -1.0, -2.0, 0.0),
        ),
        "rescore.json": readings.RescoreReading(1.0, 4.0),
        "perplexity.json": readings.PerplexityReading(7.5, 6, 32, "ab12"),
        "oracle.json": readings.OracleReading(1.5, 1.0, 2.0, ((1, 3.5), (9, 1.5)), 2, 3, "word"),
        "oracle-lists.json": readings.OracleReading(2.5, 2.0, 3.0),
        "first_pass.json": readings.FirstPassReading("pocketsphinx", 3, 9.0, 0.3),
    }
    assert read["rescore.json"].search_rtf == 0.25
    assert padded.median == 4.0


@pytest.mark.parametrize("name", FILES)
def test_every_variant_is_reported_or_refused(name: str, run: Path) -> None:
    if name.startswith("oracle"):
        (run / "hyp").unlink()
    if name == "bench.json":
        (run / "weights.json").unlink()  # of two LMs: one measured alone says nothing
    named, taken = [], 0
    texts = [json.dumps(one) for one in _variants(FILES[name][1])]
    for text in [*dict.fromkeys(texts), *RAW]:
        (run / name).write_text(text)
        try:
            assert _report(run).encode()
            taken += 1
        except InputError as problem:
            named.append(Path(problem.path))
    assert taken > 1
    assert len(named) > 10
    assert set(named) == {run / name}


def test_bytes_that_are_no_text(run: Path) -> None:
    for name, (reader, _) in FILES.items():
        (run / name).write_bytes(b'{"ppl_word": "\xff"}')
        with pytest.raises(InputError, match="not UTF-8"):
            reader(run / name)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("perplexity.json", {}, "ppl_word is missing; expected the file of an asrprune verb"),
        ("perplexity.json", {"ppl_word": "low"}, 'ppl_word is "low"; expected a number >= 0'),
        ("perplexity.json", [], "a list; expected a JSON object"),
        ("bench.json", {"systems": []}, "systems is []; expected one system at least"),
        ("bench.json", {"systems": [{"rtf": -1}]}, "systems[0].rtf is -1; expected a number"),
        ("bench.json", {"systems": [{}], "history": [3]}, "history[0] is 3; expected an object"),
        ("bench.json", {"systems": [{}], "parameters": 1.5}, "parameters is 1.5; expected a whole"),
        ("rescore.json", {}, "search_wall_s is missing"),
        (
            "bench.json",
            {"systems": [{}], "times_padded": {"lm": "dense", "ratios": [1, 0]}},
            "times_padded.ratios is [1, 0]; expected a number > 0, in a list",
        ),
        (
            "bench.json",
            {"systems": [{}], "times_padded": {"lm": "dense", "ratios": []}},
            "times_padded.ratios is []; expected one ratio",
        ),
        (
            "weights.json",
            {"weights": {"acoustic": 1, "first_lm": 1, "lm": [1], "word_bonus": 0}, "lms": []},
            "1 LM weights, 0 lms; expected as many of each",
        ),
        (
            "weights.json",
            {"weights": {}, "dev": {"intervals": {"acoustic": [1]}}},
            "dev.intervals.acoustic is [1]; expected a list of two numbers",
        ),
        ("first_pass.json", {"identity": 3}, "identity is 3; expected an object"),
    ],
)
def test_the_line_names_file_and_key(
    name: str, value: Any, found: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / name).write_text(json.dumps(value))
    argv = ["report", "--runs", str(run), "--ref", str(run.parent / "ref")]
    argv += ["--first-pass", str(run / "first_pass.json"), "--out", str(run.parent / "out")]
    assert main(argv) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"asrprune report: {run / name}: {found}")
    assert error.count("\n") == 1
    assert not (run.parent / "out").exists()


def test_the_total_is_unknown_where_a_part_is(run: Path) -> None:
    def total() -> Any:
        first_pass = readings.read_first_pass(run / "first_pass.json")
        (row,) = gather_runs([run], run.parent / "ref", None, first_pass).rows
        return row.total_rtf

    (run / "weights.json").unlink()  # of two LMs
    assert total() == pytest.approx(0.3 + 0.5 + 0.25)
    for lattices in ({"mode": "beam", "wall_s": 3.0}, {"search_wall_s": 1.0, "audio_s": None}):
        (run / "rescore.json").write_text(json.dumps(lattices))
        assert total() is None


def test_an_oracle_is_no_baseline(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = run.parent / "oracle"
    other.mkdir()
    (other / "oracle.json").write_text(json.dumps(FILES["oracle.json"][1]))
    argv = ["report", "--runs", str(run), str(other), "--ref", str(run.parent / "ref")]
    assert main([*argv, "--baseline", "oracle", "--out", str(run.parent / "out")]) == 1
    assert "no file hyp to compare with" in capsys.readouterr().err


def test_weights_of_an_older_file_have_no_intervals(run: Path) -> None:
    value = FILES["weights.json"][1]
    for dev in ({}, {"utterances": 3}, {"intervals": None}):
        (run / "weights.json").write_text(json.dumps({**value, "dev": dev}))
        read = readings.read_weights(run / "weights.json")
        assert [one.value for one in read] == [1.0, 2.0, 3.0, 4.0, -1.0]
        assert {(one.low, one.high) for one in read} == {(None, None)}
    (run / "weights.json").write_text(json.dumps({**value, "dev": {"intervals": {"lm": None}}}))
    assert {one.low for one in readings.read_weights(run / "weights.json")} == {None}


def test_an_ngram_has_an_engine_where_the_file_could_say(run: Path) -> None:
    for figures, engine in (({"engine": None}, "kenlm"), ({}, None)):
        (run / "bench.json").write_text(json.dumps({"systems": [{}], **figures}))
        assert readings.read_bench(run / "bench.json").engine == engine
