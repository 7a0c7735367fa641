"""CONTRIBUTING.md names files, tables and rows that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SPANS = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))
COMMANDS = [
    line.split("#")[0].split()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
TABLES = re.findall(r"`([A-Z]+)` in\s+`([\w./]+)`", TEXT)


def _is_path(word: str) -> bool:
    return bool(re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", word)) and (
        "/" in word or word.endswith((".md", ".yaml", ".toml", ".sh"))
    )


def test_paths_exist() -> None:
    words = [span.split()[0] for span in SPANS] + [word for line in COMMANDS for word in line]
    paths = {word for word in words if _is_path(word) and not word.startswith(".venv")}
    assert len(paths) > 40
    assert not {path for path in paths if not (ROOT / path).exists()}


@pytest.mark.parametrize(("table", "path"), TABLES)
def test_tables_are_where_it_says(table: str, path: str) -> None:
    source = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^{table}(:.+)? = ", source, re.MULTILINE)


def test_rows_are_those_of_the_tables() -> None:
    """Each indented example starts a row of the table that its paragraph is about."""
    rows = re.findall(r'^    (?:Format\()?("[\w-]+")(: \w+\(?)?', TEXT, re.MULTILINE)
    assert len(rows) == 7
    sources = "".join((ROOT / path).read_text(encoding="utf-8") for _, path in set(TABLES))
    assert [name + more for name, more in rows if name + more not in sources] == []
