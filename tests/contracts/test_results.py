"""README.md and recipes/mini/RESULTS.md say what recipes/mini/results.json says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import asrprune

ROOT = Path(__file__).parents[2]


def test_the_documents_are_those_of_the_recorded_run() -> None:
    script = [sys.executable, str(ROOT / "local/mini/write_results.py"), "--check"]
    environment = {**os.environ, "PYTHONPATH": str(Path(asrprune.__file__).parents[1])}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
