"""Formats that are folders: whole or absent, with nothing of an earlier output."""

from __future__ import annotations

from pathlib import Path

import pytest

from asrprune.cli.main import main
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.firstpass.formats.jsonl import write_nbest
from asrprune.firstpass.formats.table import FORMATS

FOLDERS = [name for name, one in FORMATS.items() if one.write is not None and one.is_folder]
FILES = [name for name, one in FORMATS.items() if one.write is not None and not one.is_folder]


def lists(path: Path, *utts: str) -> Path:
    write_nbest(path, [NBest(utt, (Hypothesis("a b", -1.0, -2.0),)) for utt in utts])
    return path


def convert(name: str, source: Path, out: Path, *more: str) -> int:
    return main(["convert", "--from", "jsonl", "--to", name, str(source), "--out", str(out), *more])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_formats() -> None:
    assert [
        *("slf", "kaldi-nbest", "kaldi-lat", "kaldi-lat-plain", "kaldi-lat-binary"),
        *("srilm-nbest", "k2"),
    ] == FOLDERS


@pytest.mark.parametrize("name", FOLDERS)
def test_a_conversion_that_fails_leaves_what_was_there(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    cut_off = lists(tmp_path / "lists", "u1", "u2")
    with open(cut_off, "a", encoding="utf-8") as stream:
        stream.write('{"utt": "u3"')
    assert convert(name, cut_off, out) == 1
    assert not out.exists()
    assert convert(name, lists(tmp_path / "good", "u0"), out) == 0
    before = contents(out)
    assert convert(name, cut_off, out, "--force") == 1
    assert contents(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "lists", "out"]


@pytest.mark.parametrize("name", FOLDERS)
def test_nothing_of_before_stays(name: str, tmp_path: Path) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    assert convert(name, lists(tmp_path / "lists", "u1", "u2"), out) == 0
    (out / "notes").touch()
    assert convert(name, lists(tmp_path / "lists", "u2", "u3"), out, "--force") == 0
    assert convert(name, tmp_path / "lists", fresh) == 0
    assert contents(out) == contents(fresh)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "lists", "out"]


@pytest.mark.parametrize("name", FILES)
def test_no_file_takes_the_place_of_a_folder(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    assert convert(name, lists(tmp_path / "lists", "u1"), tmp_path / "out", "--force") == 1
    error = capsys.readouterr().err
    assert f"out: a folder; expected a file: {name} is written as one" in error
    assert (tmp_path / "out").is_dir()


@pytest.mark.parametrize("name", FOLDERS)
def test_a_writer_replaces_its_own_output_and_no_other_folder(name: str, tmp_path: Path) -> None:
    from asrprune.core.lattice.union import union_of_nbest

    write = FORMATS[name].write
    assert write is not None
    items = [NBest(utt, (Hypothesis("a", -1.0, -2.0),)) for utt in ("u1", "u2")]
    made = items if FORMATS[name].kind == "nbest" else [union_of_nbest(one) for one in items]
    out = tmp_path / "out"
    write(out, made)
    whole = contents(out)
    (out / ".u3.slf.gz.4711.tmp").touch()  # a killed run's
    write(out, made[:1])
    write(out, made)
    assert contents(out) == whole
    (out / "notes").touch()
    with pytest.raises(ValueError, match="out holds notes; expected a new or empty folder"):
        write(out, made)
    for other in (out / "notes", *([] if name.startswith("kaldi-lat") else ["-"])):
        with pytest.raises(ValueError, match="is no folder; expected a new or empty folder"):
            write(other, made)
    assert contents(out).keys() == {*whole, "notes"}
