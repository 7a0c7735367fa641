"""Recipes as a user calls them, in this environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import asrprune

ROOT = Path(__file__).parents[2]


def run_recipe(name: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """``recipes/NAME/run.sh`` with its outputs in ``folder/exp``."""
    environment = {
        **os.environ,
        "ASRPRUNE_VENV": sys.prefix,
        "PYTHONPATH": str(Path(asrprune.__file__).parents[1]),
    }
    return subprocess.run(
        ["bash", str(ROOT / f"recipes/{name}/run.sh"), "--exp", str(folder / "exp"), *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
