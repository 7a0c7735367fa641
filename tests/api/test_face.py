"""``import asrprune`` is light, and says what it offers."""

from __future__ import annotations

import ast
import doctest
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import asrprune

SOURCE = Path(asrprune.__file__)


def test_the_import_is_light() -> None:
    code = (
        "import sys, asrprune\n"
        "assert asrprune.__all__ and set(asrprune.__all__) <= set(dir(asrprune))\n"
        "ours = sorted(name for name in sys.modules if name.startswith('asrprune.'))\n"
        "heavy = {'numpy', 'torch', 'argparse', 'dataclasses', 'logging'} & set(sys.modules)\n"
        "sys.exit(f'imported: {ours} {heavy}' if ours or heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {_root()!r})\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _root() -> str:
    return str(SOURCE.parents[1])


def test_all_tables_of_names_agree() -> None:
    """What is said to type checkers is what is imported."""
    assert asrprune.__all__ == list(asrprune._HOMES) == sorted(asrprune.__all__)
    stated = {
        alias.name: node.module
        for node in ast.walk(ast.parse(SOURCE.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("asrprune.")
        for alias in node.names
    }
    assert stated == {name: f"asrprune.{home}" for name, home in asrprune._HOMES.items()}


@pytest.mark.parametrize("name", asrprune.__all__)
def test_every_name_is_typed_and_documented(name: str) -> None:
    value = getattr(asrprune, name)
    assert value.__name__ == name
    assert value.__module__ == f"asrprune.{asrprune._HOMES[name]}"
    assert not (SOURCE.parent / name).exists(), "a sub-package would take the name"
    if inspect.isclass(value):
        assert value.__doc__
        return
    signature = inspect.signature(value)
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty, parameter
    assert "Raises" in (value.__doc__ or "")
    (test,) = doctest.DocTestFinder(recurse=False).find(value, name)
    assert f"asrprune.{name}" in "".join(example.source for example in test.examples)


def test_other_names_are_errors() -> None:
    with pytest.raises(AttributeError, match="module 'asrprune' has no attribute 'score'"):
        _ = asrprune.score  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="cannot import name 'tune'"):
        from asrprune import tune  # type: ignore[attr-defined]  # noqa: F401
