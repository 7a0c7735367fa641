"""The folders import one way, as the package docstring and the design say."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import asrprune

PACKAGE = Path(asrprune.__file__).parent
LEVEL = {
    "errors": 0,
    "files": 1,
    "provenance": 1,
    "core": 2,
    "wer": 3,
    "text": 3,
    "firstpass": 3,
    "lm": 4,
    "prune": 5,
    "rescore": 5,
    "exchange": 5,
    "report": 5,
    "cli": 6,
}
NO_TORCH = ("core", "wer", "firstpass", "errors", "files", "provenance")


def _arrows() -> list[tuple[str, str, str]]:
    """(file, folder it stands in, folder it imports) for every import of our own package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] in ("__init__", "__main__"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno}: relative import"
                names = [node.module or ""]
                if node.module == "asrprune":
                    names = [f"asrprune.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                if name.startswith("asrprune.") and name != "asrprune.__version__":
                    found.append((f"{path}:{node.lineno}", parts[0], name.split(".")[1]))
    return found


def test_the_walk_sees_imports() -> None:
    assert len(_arrows()) > 20


def test_imports_point_to_earlier_folders_only() -> None:
    wrong = [
        f"{place}: {source} imports {target}"
        for place, source, target in _arrows()
        if source != target and LEVEL[source] <= LEVEL[target]
    ]
    assert not wrong, "\n".join(wrong)


def test_light_folders_import_no_torch() -> None:
    modules = [
        ".".join(("asrprune", *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).with_suffix("").parts[0] in NO_TORCH
    ]
    modules = [name.removesuffix(".__init__") for name in modules]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "heavy = {'torch', 'k2', 'lhotse', 'pocketsphinx', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_module_is_named_after_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not [path for path in PACKAGE.rglob("*.py") if path.stem in vague]
