"""README.md and recipes/mini/RESULTS.md say what recipes/mini/results.json says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import asrprune

ROOT = Path(__file__).parents[2]
RECORDED = (ROOT / "recipes/mini/results.json").exists()


@pytest.mark.skipif(not RECORDED, reason="the recorded run of recipes/mini has no results.json")
def test_the_documents_are_those_of_the_recorded_run() -> None:
    script = [sys.executable, str(ROOT / "local/mini/write_results.py"), "--check"]
    environment = {**os.environ, "PYTHONPATH": str(Path(asrprune.__file__).parents[1])}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(RECORDED, reason="results.json is there: the check above sees every line")
def test_rows_of_the_readme_are_those_of_the_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"<!-- results: (\S+) -->\n(.*?)<!-- end of results -->", readme, re.DOTALL)
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
