"""The README says what is there: tables, commands, flags, results."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from asrprune.cli.main import COMMANDS
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.methods import METHODS
from asrprune.prune.run.schedules import SCHEDULES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ["README.md", "recipes/mini/README.md"]


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


def test_verbs_and_flags_exist() -> None:
    lines = [line for line in _blocks(README) if line.startswith("asrprune ")]
    assert len(lines) >= 9
    for line in lines:
        _, verb, *words = shlex.split(line, comments=True)
        parser = argparse.ArgumentParser(allow_abbrev=False)
        importlib.import_module(COMMANDS[verb][0]).add_arguments(parser)
        parser.parse_args(words)  # exits on an unknown flag


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


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_are_linked_exist(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_results_are_those_of_the_recipe() -> None:
    table = re.search(r"<!-- results: (\S+) -->\n(.*?)<!-- end of results -->", README, re.DOTALL)
    assert table is not None
    recorded = (ROOT / table.group(1)).read_text(encoding="utf-8")
    rows = [line for line in table.group(2).splitlines() if line.startswith("|")]
    assert len(rows) > 10
    for row in rows[2:]:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert any(
            set(cells) <= {cell.strip() for cell in line.split("|")}
            for line in recorded.splitlines()
            if line.startswith("|")
        ), row
