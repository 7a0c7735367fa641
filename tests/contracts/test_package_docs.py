"""The folders say what stands in them, so that the tree shows where code belongs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import asrprune

PACKAGE = Path(asrprune.__file__).parent
LISTED = ("api", "firstpass", "lm", "prune/recommend", "rescore")
"""Folders whose docstring lists their parts."""


def _docstring(folder: Path) -> str:
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    return ast.get_docstring(tree) or ""


def test_every_folder_says_what_stands_in_it() -> None:
    folders = [path.parent for path in PACKAGE.rglob("__init__.py")]
    assert not [folder for folder in folders if len(_docstring(folder).split()) < 5]


@pytest.mark.parametrize("name", LISTED)
def test_the_list_of_parts_is_that_of_the_folder(name: str) -> None:
    folder = PACKAGE / name
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    parts = modules | {path.parent.name for path in folder.glob("*/__init__.py")}
    items = re.findall(r"^- (.+?):", _docstring(folder), re.MULTILINE)
    named = [part for item in items for part in re.findall(r"``(\w+)``", item)]
    assert sorted(named) == sorted(parts)
