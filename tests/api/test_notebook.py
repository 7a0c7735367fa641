"""The examples for notebooks are run: the README's lines, and recipes/notebook/example.py."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import asrprune
from asrprune.api.example import SENTENCES, tiny_lists, tiny_lm
from asrprune.text.pack import pack_corpus
from asrprune.text.sentencepiece import TokenizerConfig
from asrprune.wer.kaldi_text import kaldi_text_writer

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes/notebook"
FIRST_PASS = 9.09  # one of the eleven words of tiny_lists is wrong
WER = re.compile(r"WER (\d+\.\d\d) % \[")


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the examples name, of the tiny LM."""
    made = tmp_path_factory.mktemp("notebook")
    for name in ("dev", "eval"):
        lists = [replace(one, utt=f"{name}-{one.utt}") for one in tiny_lists()]
        asrprune.write_nbest(made / f"{name}.jsonl.gz", lists)
        with kaldi_text_writer(made / name / "text") as put:
            for one in lists:
                put(one.utt, one.ref or "")
    text = made / "train.txt"
    text.write_text("".join(f"{sentence}\n" for sentence in SENTENCES))
    pieces, config = tiny_lm().tokenizer_path, TokenizerConfig(vocab_size=24)
    pack_corpus([text], None, config, made / "data", tokenizer=pieces)
    asrprune.save_checkpoint(made / "exp/dense", tiny_lm())
    return made


def test_the_lines_of_the_readme_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (lines,) = python_blocks(RECIPE / "README.md")
    assert len(lines.splitlines()) <= 15
    assert python_blocks(ROOT / "README.md") == [lines]
    monkeypatch.chdir(folder)
    exec(compile(lines, "README.md", "exec"), {})
    rates = WER.findall(capsys.readouterr().out)
    assert rates[0] == "0.00"
    assert len(rates) == 4
    assert max(map(float, rates)) <= FIRST_PASS


@pytest.mark.slow
def test_the_script_runs_on_its_own_lists() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(RECIPE / "example.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    first_pass, dense, *pruned = done.stdout.splitlines()
    assert first_pass.startswith("first pass: WER 13.33 % [")
    assert dense.startswith("dense: WER 0.00 % [")
    assert "; -13.33 [" in dense
    assert [line.partition(":")[0] for line in pruned] == ["sparsity 0.29", "sparsity 0.50"]
    assert len(WER.findall(done.stdout)) == 4


def test_the_script_runs_on_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("exp/dense", "data", "dev.jsonl.gz", "eval.jsonl.gz")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["example.py", *arguments])
    runpy.run_path(str(RECIPE / "example.py"), run_name="__main__")
    rates = WER.findall(capsys.readouterr().out)
    assert [float(rate) for rate in rates[:2]] == [FIRST_PASS, 0.0]
    assert len(rates) == 4
