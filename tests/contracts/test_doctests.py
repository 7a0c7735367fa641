"""Every example in a docstring is run, and no optional package is needed to get at it."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import asrprune

PACKAGE = Path(asrprune.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__main__.py"
}
FOR_TRANSFORMERS = "asrprune.exchange.exporters.modeling_asrprune"
"""The file that transformers loads: it builds on its classes, and on nothing of ours."""
OPTIONAL = ("k2", "kenlm", "kaldingram", "lhotse", "pocketsphinx", "soundfile")
OPTIONAL += (
    "onnx",
    "onnxruntime",
    "openvino",
    "tensorboard",
    "transformers",
    "kaldialign",
    "xllamacpp",
    "gguf",
    "tokenizers",
)


def test_doctest_finds_every_example() -> None:
    """A docstring under a constant or behind a decorator is one that doctest passes over."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    written, found = {}, {}
    for name, path in MODULES.items():
        source = path.read_text(encoding="utf-8")
        if ">>>" not in source:
            continue
        strings = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
        texts = [node.value for node in strings if isinstance(node.value, str)]
        written[name] = sum(len(re.findall(r"^\s*>>> ", text, re.MULTILINE)) for text in texts)
        module = importlib.import_module(name.removesuffix(".__init__"))
        found[name] = sum(len(test.examples) for test in finder.find(module))
    assert len(found) >= 20
    assert found == written


@pytest.mark.slow
def test_every_module_imports_without_the_optional_packages() -> None:
    names = [name.removesuffix(".__init__") for name in MODULES if name != FOR_TRANSFORMERS]
    code = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({OPTIONAL!r}))\n"  # None: not to be found
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
