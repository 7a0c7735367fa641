"""The README says what is there: tables, commands, flags, results."""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import os
import random
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from asrprune.cli.main import COMMANDS, main
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.methods import METHODS
from asrprune.prune.run.schedules import SCHEDULES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ["README.md", "recipes/mini/README.md"]
GUIDES = [
    f"asrprune/{folder}/README.md" for folder in ("prune", "rescore", "lm/engines", "exchange")
]
RECIPES = [f"recipes/{name}" for name in ("own_lm", "study", "librispeech")]
EVERY_PAGE = sorted(
    str(path.relative_to(ROOT))
    for folder in ("*.md", "*/*.md", "asrprune/**/*.md", "recipes/**/*.md", "tests/**/*.md")
    for path in ROOT.glob(folder)
    if path.parent.name[0] != "."
)


@pytest.mark.parametrize(
    ("axis", "table"), [("criterion", CRITERIA), ("method", METHODS), ("schedule", SCHEDULES)]
)
def test_axes_are_the_tables(axis: str, table: dict[str, object]) -> None:
    row = re.search(rf"^\| {axis} \| (.+) \|$", README, re.MULTILINE)
    assert row is not None
    assert row.group(1).split(", ") == list(table)


def _blocks(text: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def test_the_two_commands_are_there() -> None:
    for command in ("recipes/mini/run.sh", "tests/run.sh"):
        assert any(line.startswith(command) for line in _blocks(README))
        assert os.access(ROOT / command, os.X_OK)


def _asrprune_lines(text: str) -> list[str]:
    return [line for line in _blocks(text) if line.startswith("asrprune ")]


@pytest.mark.parametrize("document", ["README.md", *GUIDES])
def test_verbs_and_flags_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    inline = re.findall(r"`(asrprune [a-z-]+ [^`.]*--[^`]*[^`.])`", text)
    lines = _asrprune_lines(text)
    assert lines
    for line in [*lines, *inline]:
        _, verb, *words = shlex.split(line, comments=True)
        if "--help" in words:
            continue
        parser = argparse.ArgumentParser(allow_abbrev=False)
        importlib.import_module(COMMANDS[verb][0]).add_arguments(parser)
        parser.parse_args(words)  # exits on an unknown flag


SMALL = {
    "--vocab-size 5000": "--vocab-size 25",
    "model.d_model=512": "model.d_model=16 --set max_steps=4 --set tokens_per_batch=128",
    "model.n_layers=6": "model.n_layers=2 --set model.max_positions=64",
    "--sparsity 0.3,0.5,0.7": "--sparsity 0.5",
    "--fine-tune-tokens 20000000": "--fine-tune-tokens 200",
}
"""What is run in the place of the README's sizes."""


def _write_own_data(folder: Path) -> None:
    """Text, n-best lists and references of the README's names."""
    draw = random.Random(0)
    words = ["in", "the", "beginning", "god", "created", "heaven", "and", "earth"]

    def sentence() -> str:
        return " ".join(draw.choices(words, k=draw.randint(2, 8)))

    with gzip.open(folder / "train.txt.gz", "wt") as stream:
        stream.writelines(sentence() + "\n" for _ in range(300))
    (folder / "valid.txt").write_text("".join(sentence() + "\n" for _ in range(20)))
    for name in ("dev", "eval"):
        refs = {f"{name}-{number}": sentence() for number in range(8)}
        (folder / name).mkdir()
        (folder / name / "text").write_text("".join(f"{u} {t}\n" for u, t in refs.items()))
        rows: list[dict[str, object]] = [
            {"format": "asrprune-nbest", "version": 1, "log_base": "e", "sign": "logprob"}
        ]
        for utt, ref in refs.items():
            texts = list(dict.fromkeys([ref + " and", ref, sentence()]))
            hyps = [{"text": t, "acoustic": -10.0 - i, "lm": -5.0} for i, t in enumerate(texts)]
            rows.append({"utt": utt, "audio_s": 2.0, "hyps": hyps})
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.mark.slow
def test_the_commands_for_own_data_lead_to_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = README.partition("## Your own data")[2].partition("\n## ")[0]
    lines = _asrprune_lines(section)
    verbs = ["tokenize", "train", "prune", "lmscore", "lmscore", "tune", "rescore", "report"]
    verbs.append("sweep")
    assert [line.split()[1] for line in lines] == verbs
    _write_own_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    again = [
        line.replace("exp/small/sparsity-0.50", "exp/dense").replace("runs/small", "runs/dense")
        for line in lines[3:7]
    ]
    used = set()
    for line in [*lines[:7], *again, *lines[7:]]:
        for written, small in SMALL.items():
            if written in line:
                used.add(written)
            line = line.replace(written, small)
        assert main(shlex.split(line)[1:]) == 0, line
    assert used == set(SMALL)
    rows = json.loads((tmp_path / "report/table.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["dense", "small"]
    assert rows[1]["delta_p"] is not None
    swept = json.loads((tmp_path / "sweep/report/table.json").read_text())["rows"]
    assert [row["name"] for row in swept] == ["first-pass", "oracle", "dense", "small"]
    assert swept[3]["wer_percent"] == rows[1]["wer_percent"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_recipes_take_the_options_that_are_written(document: str) -> None:
    lines = _blocks((ROOT / document).read_text(encoding="utf-8"))
    commands = [line for line in lines if line.startswith("recipes/")]
    assert commands
    for line in commands:
        words = shlex.split(line, comments=True)
        result = subprocess.run([*words, "--help"], cwd=ROOT, capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (0, ""), line
        assert result.stdout.startswith("usage:"), line


@pytest.mark.parametrize("folder", RECIPES)
def test_options_of_recipes_exist(folder: str) -> None:
    lines = _blocks((ROOT / folder / "README.md").read_text(encoding="utf-8"))
    script = (ROOT / folder / "run.sh").read_text(encoding="utf-8")
    found = re.search(r'^parse_options "([^"]+)"', script, re.MULTILINE)
    assert found is not None
    knobs = {"--" + knob.replace("_", "-") for knob in found.group(1).split()}
    commands = [line for line in lines if line.startswith(f"{folder}/run.sh")]
    assert commands
    for line in commands:
        assert set(re.findall(r"(?<=\s)--[a-z][a-z-]*", line)) <= knobs, line


@pytest.mark.parametrize("document", EVERY_PAGE)
def test_files_that_are_linked_exist(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
