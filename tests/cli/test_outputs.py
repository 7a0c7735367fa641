"""No output takes the place of what the call reads."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest

from asrprune.cli.main import COMMANDS, main
from asrprune.cli.outputs import FORMAT_FILES, NO_PATHS
from asrprune.firstpass.formats.table import OPTIONS


@pytest.mark.parametrize(
    ("first", "command"),
    [
        ("--nbest", "rescore --nbest {x} --weights w --out {x}"),
        ("--scores", "rescore --nbest l --scores s {x} --weights w --out o --json {x}"),
        ("--weights", "rescore --nbest l --weights {x} --out o --write-nbest {x}"),
        ("--nbest", "lmscore --lm lm.arpa --nbest {x} --out {x}"),
        ("--lm", "lmscore --lm {x} --nbest l --out o --timing {x}"),
        ("--ref", "tune --nbest l --ref {x} --scores s --out {x}"),
        ("--scores", "tune --nbest l --ref r --scores s {x} --out {x}"),
        ("--system", "tune --nbest l --ref r --system a=s,{x} b=t --out {x}"),
        ("--ref", "wer --ref {x} --hyp h --json {x}"),
        ("--ref", "oracle --nbest l --ref {x} --json {x}"),
        ("--text", "perplexity --lm a --text {x} --json {x}"),
        ("--table", "recommend --lm a --table {x} --budget 1MB --json {x}"),
        ("SHARD", "merge s.1 {x} s.3 --out {x}"),
        ("IN", "convert --from jsonl --to jsonl {x} --out {x}"),
        ("--words", "convert --from kaldi-lat --to jsonl --words {x} lat --out {x}"),
        ("--nbest", "bench --lm a --nbest {x} --json {x}"),
        ("--lm", "export --to onnx --lm {x} --out {x}"),
    ],
)
def test_what_is_read_is_not_replaced(
    first: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read, link = tmp_path / "x", tmp_path / "link"
    read.write_bytes(b"what is read\n")
    link.symlink_to("x")
    out, _, rest = command.rpartition("{x}")
    assert main((out + str(link) + rest).format(x=read).split()) == 2
    flag = out.split()[-1]
    expected = f"{first} and {flag} are both {link}; expected two places"
    assert expected in capsys.readouterr().err
    assert read.read_bytes() == b"what is read\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "x"]


@pytest.mark.parametrize(
    "command",
    [
        "rescore --lattice {x} --format slf --weights w --out h --write-lattice {x} --to slf",
        "rescore --lattice l --format kaldi-lat --words w --weights w --out h --write-lattice {x}"
        " --to kaldi-lat --like {x}",
        "convert --from slf --to slf {x} --out {x} --force",
        "trim --lm {x} --text t --out {x} --force",
        "import --from hugging-face {x} --out {x} --force",
    ],
)
def test_a_folder_that_is_read_is_not_replaced(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = tmp_path / "x"
    read.mkdir()
    (read / "file").touch()
    assert main(command.format(x=read).split()) == 2
    assert f"are both {read}; expected two places" in capsys.readouterr().err
    assert [path.name for path in read.iterdir()] == ["file"]


def test_a_verb_may_write_into_what_it_reads(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    (runs / "lists").mkdir(parents=True)
    (runs / "ref").write_text("u a b\n")
    (runs / "hyp").write_text("u a c\n")
    wer = ["wer", "--ref", str(runs / "ref"), "--hyp", str(runs / "hyp")]
    assert main([*wer, "--out", str(runs)]) == 0
    assert (
        main(["report", "--runs", str(runs), "--ref", str(runs / "ref"), "--out", str(runs)]) == 0
    )
    assert (runs / "index.html").is_file()


def test_a_name_that_is_no_path_may_be_that_of_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ref").write_text("u a b\n")
    (tmp_path / "uh").write_text("an older file\n")
    wer = ["wer", "--ref", "ref", "--hyp", "ref", "--remove-words", "uh", "--json", "uh"]
    assert main(wer) == 0
    assert (tmp_path / "uh").read_text().startswith("{")


def test_the_options_that_are_told_apart_by_name_are_there() -> None:
    found = set()
    for module_name, _ in COMMANDS.values():
        parser = argparse.ArgumentParser()
        importlib.import_module(module_name).add_arguments(parser)
        found |= {
            action.dest
            for action in parser._actions
            if action.type is None and action.choices is None and action.nargs != 0
        }
    assert found > NO_PATHS
    assert {
        name for name, one in OPTIONS.items() if one.metavar in ("FILE", "FOLDER")
    } == FORMAT_FILES
