"""The verbs first-pass, convert and validate: results and exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asrprune.cli.main import main
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import from_arcs
from asrprune.core.weights import ScoreWeights
from asrprune.firstpass.formats.jsonl import read_nbest, write_nbest
from asrprune.firstpass.formats.slf import write_slf


@pytest.fixture
def lattices(tmp_path: Path) -> Path:
    arcs = [(0, 1, "a", -1.0, -9.0), (0, 1, "b", -3.0, -1.0)]
    for utt, weights in (("u1", None), ("u2", ScoreWeights(1.0, 0.1))):
        lattice = from_arcs(utt, 2, 0, 1, arcs, weights=weights)
        write_slf(tmp_path / "lat" / f"{utt}.slf.gz", lattice)
    return tmp_path / "lat"


def test_convert_ranks_by_the_lattice_own_weights_or_the_flags(
    lattices: Path, tmp_path: Path
) -> None:
    command = ["convert", "--from", "slf", "--to", "jsonl", str(lattices), "--out"]
    assert main([*command, str(tmp_path / "own.jsonl")]) == 0
    own = list(read_nbest(tmp_path / "own.jsonl"))
    assert [[h.text for h in nbest.hyps] for nbest in own] == [["b", "a"], ["a", "b"]]
    assert own[0].hyps[0] == Hypothesis("b", -3.0, -1.0)
    flags = ["--lm-scale", "0", "--nbest", "1"]
    assert main([*command, str(tmp_path / "am.jsonl.gz"), *flags]) == 0
    am = list(read_nbest(tmp_path / "am.jsonl.gz"))
    assert [[h.text for h in nbest.hyps] for nbest in am] == [["a"], ["a"]]


def test_convert_refuses_what_cannot_be(lattices: Path, tmp_path: Path) -> None:
    write_nbest(tmp_path / "n.jsonl", [NBest("u", (Hypothesis("a", -1.0, -2.0),))])
    nbest, out = str(tmp_path / "n.jsonl"), str(tmp_path / "out")
    jsonl = ["convert", "--from", "jsonl", "--to", "jsonl", nbest, "--out", out]
    assert main([*jsonl, "--word-bonus", "1"]) == 2
    assert main(jsonl) == 0
    assert main(["convert", "--from", "jsonl", "--to", "hyporadise", nbest, "--out", out]) == 2


def test_validate_counts(
    lattices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", "--format", "slf", str(lattices)]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["utterances"], counts["arcs"], counts["without_lm_score"]) == (2, 4, 0)
    nbest = NBest("u", (Hypothesis("a", -1.0), Hypothesis("")))
    write_nbest(tmp_path / "n.jsonl", [nbest])
    assert (
        main(["validate", "--format", "jsonl", "--accept-unscored", str(tmp_path / "n.jsonl")]) == 0
    )
    counts = json.loads(capsys.readouterr().out)
    assert (counts["hypotheses"], counts["empty_hypotheses"]) == (2, 1)
    assert counts["without_acoustic_score"] == 1


@pytest.mark.parametrize("verb", ["validate", "convert", "first-pass"])
def test_bad_data_is_status_1_and_one_line(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{broken\n", encoding="utf-8")
    argv = {
        "validate": ["validate", "--format", "jsonl", str(bad)],
        "convert": ["convert", "--from", "jsonl", "--to", "jsonl", str(bad)],
        "first-pass": ["first-pass", "--cuts", str(bad)],
    }[verb]
    if verb != "validate":
        argv += ["--out", str(tmp_path / "out")]
    assert main(argv) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if f"{bad}:1: " in line] == lines[-1:]
    assert not (tmp_path / "out").exists()


def test_validate_refuses_an_utterance_that_comes_twice_and_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("empty.json", "{}"), ("twice.json", '{"u": {}, "u": {}}')):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert main(["validate", "--format", "mlm-json", str(tmp_path / name)]) == 1
    assert "'u' again" in capsys.readouterr().err


@pytest.mark.parametrize("flag", [["--nbest", "0"], ["--lattice-beam", "-1"], ["--nj", "0"]])
def test_wrong_settings_are_status_2(flag: list[str], tmp_path: Path) -> None:
    cuts = tmp_path / "cuts.jsonl"
    cuts.write_text('{"id": "u"}\n', encoding="utf-8")
    assert main(["first-pass", "--cuts", str(cuts), "--out", str(tmp_path / "o"), *flag]) == 2
