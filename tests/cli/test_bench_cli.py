"""``asrprune bench``: part of the lists, and many LMs in turns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from asrprune.cli.main import main
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.timing import Timing
from asrprune.files import write_json
from asrprune.firstpass.formats.jsonl import write_nbest
from asrprune.lm import open as opening
from asrprune.lm.engines.choice import Choice
from asrprune.lm.engines.pytorch.padded import PaddedScorer
from asrprune.lm.model.checkpoint import save_checkpoint
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.scoring.sentences import TransformerScorer
from asrprune.rescore.bench import engines
from asrprune.rescore.bench.bench import BenchResult, speed_up
from tests.quick import slow
from tests.small_lm import SENTENCES, save_small_lm

ARPA = (
    "\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-0.5\t<unk>\n-0.5\t<s>\t-0.1\n-0.5\t</s>\n"
    "-0.5\ta\t-0.1\n\n\\2-grams:\n-0.2\t<s> a\n\n\\end\\\n"
)


@pytest.mark.parametrize(("flags", "audio_s"), [(["--limit", "1"], 1.0), *slow([([], 6.0)])])
def test_limit_measures_fewer_utterances(flags: list[str], audio_s: float, tmp_path: Path) -> None:
    pytest.importorskip("kenlm")
    (tmp_path / "tiny.arpa").write_text(ARPA)
    lists = [NBest(f"u{n}", (Hypothesis("a", -1.0),), audio_s=float(n)) for n in (1, 2, 3)]
    write_nbest(tmp_path / "nbest.jsonl", lists)
    command = ["bench", "--lm", str(tmp_path / "tiny.arpa"), "--json", str(tmp_path / "out.json")]
    assert main([*command, "--nbest", str(tmp_path / "nbest.jsonl"), *flags]) == 0
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["systems"][0]["audio_s"] == audio_s
    assert figures["size_bytes"] == len(ARPA)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the checkpoints lm and llama, tiny.arpa and nbest.jsonl."""
    lm = save_small_lm(tmp_path)
    shape = ModelShape.uniform(18, 16, 1, 2, max_positions=40, architecture="llama")
    save_checkpoint(tmp_path / "llama", TransformerLM(shape), lm / "tokenizer.model", {})
    (tmp_path / "tiny.arpa").write_text(ARPA)
    hyps = tuple(Hypothesis(text, -1.0 - n, -2.0) for n, text in enumerate(SENTENCES[:3]))
    write_nbest(tmp_path / "nbest.jsonl", [NBest(u, hyps, 2.0, "a cat") for u in ("u1", "u2")])
    return tmp_path


def _bench(place: Path, systems: Sequence[str], *more: str) -> int:
    named = [one.replace("=", f"={place}/") for one in systems]
    command = ["bench", "--system", *named, "--nbest", str(place / "nbest.jsonl"), "--warmup", "0"]
    return main([*command, "--out", str(place / "out"), *more])


def _figures(place: Path, name: str) -> Any:
    return json.loads((place / "out" / name / "bench.json").read_text())


def test_many_lms_take_turns(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = []
    for scorer in (TransformerScorer, PaddedScorer):

        def score_lists(self: Any, lists: Any, real: Any = scorer.score_lists) -> Any:
            turns.append(self.name)
            return real(self, lists)

        monkeypatch.setattr(scorer, "score_lists", score_lists)
    systems = ["dense=lm", "copy=lm", "small+2=llama"]
    assert _bench(place, systems, "--baseline", "padded", "--repeats", "3", "--threads", "1") == 0
    assert turns == ["lm", "lm", "llama", "padded"] * 3
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:3] == ["system", "engine", "MB"]
    assert [line.split()[:2] for line in printed[1:4]] == [
        ["dense", "torch"],
        ["copy", "torch"],
        ["small+2", "torch"],
    ]
    assert "padded fp32 batch of dense" in printed[5]
    assert "scores of 1 systems" in printed[6]
    files = {path.relative_to(place / "out") for path in (place / "out").rglob("*.*")}
    assert files == {Path(name) / "bench.json" for name in ("dense", "copy", "small+2")}
    for name in ("dense", "copy", "small+2"):
        figures = _figures(place, name)
        own, padded = figures["systems"]
        assert (own["name"], padded["name"]) == (name, "dense padded")
        assert padded["runs_s"] == _figures(place, "dense")["systems"][1]["runs_s"]
        times = figures["times_padded"]
        ratios = [slow / fast for slow, fast in zip(padded["runs_s"], own["runs_s"])]
        assert times == {
            "lm": "dense",
            "ratios": ratios,
            "median": sorted(ratios)[1],
            "min": min(ratios),
            "max": max(ratios),
        }
        assert figures["turns"] == ["dense", "copy", "small+2", "dense padded"]
        assert figures["size_bytes"] > 0
        assert ("agreement" in figures) == (name == "dense")
    assert _figures(place, "dense")["agreement"]["max_difference"] < 1e-4
    runs = [_figures(place, name)["run"] for name in ("dense", "copy", "small+2")]
    assert runs[0] == runs[1] == runs[2]
    assert runs[0]["padded_lm_hash"] == opening.lm_digest(place / "lm")
    command = ["bench", "--lm", str(place / "llama"), "--nbest", str(place / "nbest.jsonl")]
    command += ["--warmup", "0", "--repeats", "1", "--json", str(place / "one.json")]
    assert main([*command, "--baseline", "padded"]) == 0
    one = json.loads((place / "one.json").read_text())["run"]
    assert one["times_hash"] != runs[0]["times_hash"]
    assert one["nbest_hash"] == runs[0]["nbest_hash"]
    assert one["padded_lm_hash"] == opening.lm_digest(place / "llama")
    assert main([*command, "--limit", "1"]) == 0
    part = json.loads((place / "one.json").read_text())["run"]
    assert part["nbest_hash"] != one["nbest_hash"]
    assert part["padded_lm_hash"] is None


def test_a_ratio_is_taken_within_its_turn() -> None:
    slow, fast = (
        BenchResult(name, runs, Timing(1.0), [])
        for name, runs in (("slow", (8.0, 30.0, 9.0)), ("fast", (2.0, 10.0, 1.0)))
    )
    found = speed_up(slow, fast)
    assert found.ratios == (4.0, 3.0, 9.0)
    assert (found.median, found.min, found.max) == (4.0, 3.0, 9.0)
    with pytest.raises(ValueError, match="expected as many"):
        speed_up(slow, BenchResult("once", (1.0,), Timing(1.0), []))


def test_an_ngram_is_one_of_many(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("kenlm")
    lists = [NBest("u1", (Hypothesis("a", -1.0),), audio_s=1.0)]
    write_nbest(place / "nbest.jsonl", lists)
    more = ("--repeats", "1", "--engine", "torch-bf16")
    assert _bench(place, ["dense=lm", "gram=tiny.arpa"], *more) == 0
    assert capsys.readouterr().out.splitlines()[2].split()[:2] == ["gram", "kenlm"]
    gram, dense = _figures(place, "gram"), _figures(place, "dense")
    assert (gram["engine"], gram["threads"], gram["size_bytes"]) == (None, 1, len(ARPA))
    assert "agreement" not in gram
    assert "times_padded" not in gram
    assert dense["agreement"]["reference"] == "torch"
    assert _bench(place, ["dense=lm"], *more, "--no-check") == 0
    assert "agreement" not in _figures(place, "dense")


@pytest.mark.parametrize(
    ("systems", "more", "found"),
    [
        (["a=lm", "b=llama"], ["--engine", "int8"], "engine int8 computes gpt2"),
        (["a=lm", "a=llama"], [], "--system a: two of this name"),
        (["a=lm"], ["--engine", "int8", "--calibration", "x"], "no use for engine int8"),
        (["a=lm", "../b=lm"], [], "expected a NAME"),
        (["a=lm", "b="], [], "expected NAME=PATH"),
        (["a=lm"], ["--lm", "x"], "not allowed with argument"),
        (["a=lm"], ["--engine", "torch-bf16", "--weights", "x"], "weights are those of one LM"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    systems: list[str],
    more: list[str],
    found: str,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asrprune.rescore.bench.bench.bench", None)
    if "b=" in systems:
        assert main(["bench", "--system", *systems, "--nbest", "x", "--out", "y"]) == 2
    else:
        assert _bench(place, systems, *more) == 2
    error = capsys.readouterr().err.splitlines()
    assert [line for line in error if found in line] == error[-1:]
    assert not (place / "out").exists()


def test_many_need_a_place_and_paths_that_are_there(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "--nbest", str(place / "nbest.jsonl")]
    assert main([*command, "--system", f"a={place}/lm"]) == 2
    assert "expected --out DIR" in capsys.readouterr().err
    assert main(command) == 2
    assert "--lm --system is required" in capsys.readouterr().err
    assert _bench(place, ["a=lm", "b=none"]) == 1
    assert f"{place}/none: no such path" in capsys.readouterr().err


def _table_of_engines(place: Path, lm: str, *more: str) -> int:
    command = ["bench", "--lm", str(place / lm), "--nbest", str(place / "nbest.jsonl")]
    command += ["--repeats", "1", "--warmup", "0", "--threads", "1", *more]
    return main([*command, "--json", str(place / "engines.json")])


def test_a_table_of_engines(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "in_processes", lambda work, items, *rest: map(work, items))
    values = {"acoustic": 1.0, "first_lm": 0.5, "word_bonus": 0.0, "lm": [1.0]}
    head = {"format": "asrprune-weights", "version": 1, "lms": ["llama"]}
    write_json(place / "weights", {**head, "weights": values})
    names = ["torch", "torch-bf16", "int8"]
    more = ["--engines", ",".join(names), "--weights", str(place / "weights")]
    assert _table_of_engines(place, "llama", *more) == 0
    figures = json.loads((place / "engines.json").read_text())
    exact, rounded = figures["engines"]
    assert [one["name"] for one in (exact, rounded)] == names[:2]
    assert (exact["accuracy"], rounded["accuracy"]) == ("float32", "bf16")
    assert exact["agreement"]["max_difference"] < 1e-4 < rounded["agreement"]["max_difference"]
    assert exact["agreement"]["wer"]["difference_percent"] == 0.0
    padded = figures["padded"]["runs_s"][0]
    for one in (exact, rounded):
        assert one["times_padded"]["median"] == padded / one["runs_s"][0]
        assert min(one["opening_s"], one["peak_rss_bytes"]) > 0
    assert "computes gpt2, but the LM is llama" in figures["unavailable"]["int8"]
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[:4]] == ["engine", *names[:2], "int8:"]
    assert printed[1].split()[:2] == ["torch", "float32"]
    assert "+0.00 [+0.00, +0.00]" in printed[1]
    assert printed[-1].startswith("llama, cpu, 1 threads; median of 1 runs")


@pytest.mark.parametrize("engine", ["torch", "torch-bf16"])
def test_what_is_longer_than_the_positions_is_measured_in_windows_or_named(
    engine: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "in_processes", lambda work, items, *rest: map(work, items))
    path, window = place / "nbest.jsonl", ("--over-long", "window")
    hyps = (Hypothesis("a cat" + " a cat" * 30, -1.0), Hypothesis("a cat", -2.0))
    write_nbest(path, [NBest("u1", hyps, 2.0)])
    one = ("--engine", engine, "--baseline", "padded")
    assert _table_of_engines(place, "lm", *one) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"asrprune bench: {path}: utterance u1: hypothesis 1 has ")
    assert "the model takes at most 39 (see --over-long)" in line
    assert _table_of_engines(place, "lm", *one, *window) == 0
    figures = json.loads((place / "engines.json").read_text())
    assert figures["agreement"]["max_difference"] < 0.5
    assert _bench(place, ["lm=lm"], *one[:2], "--repeats", "1", *window) == 0
    agreement = _figures(place, "lm").get("agreement")
    assert agreement is None if engine == "torch" else agreement["max_difference"] < 0.5
    assert _table_of_engines(place, "lm", "--engines", engine, *window) == 0
    (only,) = json.loads((place / "engines.json").read_text())["engines"]
    assert only["agreement"]["max_difference"] < 0.5


@pytest.mark.slow
def test_an_engine_has_a_process_of_its_own(place: Path) -> None:
    assert _table_of_engines(place, "lm", "--engines", "torch", "--no-check") == 0
    (only,) = json.loads((place / "engines.json").read_text())["engines"]
    assert only["name"] == "torch"
    assert "agreement" not in only


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--engine", "torch"], "--engine has no use with --engines"),
        (["--baseline", "padded"], "--baseline has no use with --engines, which always measures"),
        (["--calibration", "text"], "--calibration has no use for engine torch"),
    ],
)
def test_a_table_of_engines_refuses(
    flags: list[str], found: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _table_of_engines(place, "lm", "--engines", "torch,int8", *flags) == 2
    assert found in capsys.readouterr().err


def test_fastest_states_its_choice(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = Choice("fastest", "torch-bf16", {"torch": 1.0, "torch-bf16": 2.0}, {}, {}, "lists")
    monkeypatch.setattr(opening, "choose", lambda *given: choice)
    assert _table_of_engines(place, "lm", "--engine", "fastest") == 0
    figures = json.loads((place / "engines.json").read_text())
    assert (figures["engine"], figures["choice"]["asked"]) == ("torch-bf16", "fastest")
    assert figures["choice"]["speeds"] == {"torch": 1.0, "torch-bf16": 2.0}
    assert figures["agreement"]["reference"] == "torch"
