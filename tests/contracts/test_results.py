"""The documents made of recipes/*/results.json say what it says: pages, README.md, tables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import asrprune

ROOT = Path(__file__).parents[2]


RECIPES = sorted(path.parent.name for path in ROOT.glob("recipes/*/results.json"))


def test_mini_is_among_them() -> None:
    assert "mini" in RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_documents_are_those_of_the_recorded_run(recipe: str) -> None:
    script = [sys.executable, str(ROOT / f"local/{recipe}/write_results.py"), "--check"]
    environment = {**os.environ, "PYTHONPATH": str(Path(asrprune.__file__).parents[1])}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
