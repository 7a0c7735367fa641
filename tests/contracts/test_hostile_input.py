"""Every verb x hostile input: status 1, one clear line, nothing written."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from asrprune.cli.main import COMMANDS, main

HOSTILE: dict[str, Callable[[Path], Path]] = {}


def _hostile(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    HOSTILE[make.__name__] = make
    return make


@_hostile
def missing(folder: Path) -> Path:
    return folder / "missing.jsonl"


@_hostile
def a_folder(folder: Path) -> Path:
    (folder / "folder.jsonl").mkdir()
    return folder / "folder.jsonl"


@_hostile
def empty(folder: Path) -> Path:
    (folder / "empty.jsonl").touch()
    return folder / "empty.jsonl"


@_hostile
def not_utf8(folder: Path) -> Path:
    (folder / "latin.jsonl").write_bytes(b"u1 caf\xe9\n")
    return folder / "latin.jsonl"


@_hostile
def cut_short(folder: Path) -> Path:
    path = folder / "short.jsonl.gz"
    path.write_bytes(gzip.compress(b"u1 one two three\n" * 999)[:-30])
    return path


@_hostile
def binary(folder: Path) -> Path:
    (folder / "binary.jsonl").write_bytes(bytes(range(256)) * 8)
    return folder / "binary.jsonl"


# verb -> its arguments, with {bad} where the hostile file goes, {good} a Kaldi text and {out} the
# output; "list" and "completion" read nothing
ARGUMENTS = {
    "tokenize": "--text {bad} --vocab-size 30 --out {out}",
    "train": "--data {bad} --out {out}",
    "import": "--from hugging-face {bad} --out {out}",
    "perplexity": "--lm {bad} --text {good} --json {out}",
    "trim": "--lm {bad} --text {good} --out {out}",
    "prune": "--lm {bad} --data {bad} --out {out}",
    "recommend": "--lm {bad} --budget 0.5 --json {out}",
    "first-pass": "--decoder pocketsphinx --cuts {bad} --out {out}",
    "convert": "--from jsonl --to jsonl {bad} --out {out}",
    "validate": "--format jsonl {bad}",
    "lmscore": "--lm {arpa} --nbest {bad} --out {out}",
    "tune": "--nbest {bad} --scores {bad} --ref {good} --out {out}",
    "rescore": "--nbest {bad} --weights {bad} --out {out}",
    "merge": "{bad} --out {out}",
    "wer": "--ref {good} --hyp {bad} --json {out}",
    "oracle": "--nbest {bad} --ref {good} --json {out}",
    "bench": "--lm {arpa} --nbest {bad} --json {out}",
    "export": "--to onnx --lm {bad} --out {out}",
    "sweep": "--dev {bad} --dev-ref {good} --test {bad} --test-ref {good} --system lm={arpa}"
    " --out {out}",
    "report": "--runs {bad} --ref {good} --out {out}",
}

ARPA = (
    "\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-0.5\t<unk>\n-0.5\t<s>\t-0.1\n-0.5\t</s>\n"
    "-0.5\ta\t-0.1\n\n\\2-grams:\n-0.2\t<s> a\n\n\\end\\\n"
)


def test_every_verb_that_reads_is_covered() -> None:
    assert set(ARGUMENTS) == set(COMMANDS) - {"list", "completion"}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("verb", ARGUMENTS)
def test_one_line_and_status_one(
    verb: str, hostile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good").write_text("u1 one two\n")
    (tmp_path / "tiny.arpa").write_text(ARPA)
    names = {
        "bad": HOSTILE[hostile](tmp_path),
        "good": tmp_path / "good",
        "arpa": tmp_path / "tiny.arpa",
        "out": tmp_path / "out",
    }
    status = main([verb, *(word.format(**names) for word in ARGUMENTS[verb].split())])
    error = capsys.readouterr().err
    assert status == 1, error
    assert error.count("\n") == 1, error
    assert error.startswith(f"asrprune {verb}: ")
    assert "; expected " in error
    assert names["bad"].name in error  # it is the hostile file that is refused
    assert not (tmp_path / "out").exists()
