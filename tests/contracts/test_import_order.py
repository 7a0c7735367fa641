"""The folders import one way, as the package docstring and the design say."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import asrprune

PACKAGE = Path(asrprune.__file__).parent
LEVEL = {
    "errors": 0,
    "files": 1,
    "provenance": 1,
    "core": 2,
    "wer": 3,
    "text": 3,
    "firstpass": 4,
    "lm": 5,
    "prune": 6,
    "rescore": 6,
    "exchange": 6,
    "report": 6,
    "cli": 7,
    "api": 7,
}
INSIDE = {
    "files": {"streams": 0, "reading": 0, "locks": 1, "passing": 2, "writing": 2, "together": 3},
    "core": {"composition": 0, "tables": 0, "config": 0, "counts": 0, "timing": 0, "progress": 0}
    | {"letter_case": 0, "special_words": 0, "transcripts": 0, "processes": 0, "checksums": 0}
    | {"tensor_file": 0, "spool": 0, "units": 1, "record": 1, "hypothesis": 2, "weights": 2}
    | {"resume": 2, "shards": 2, "lattice": 3},
    "firstpass": {"reading": 0, "on_bad": 0, "references": 1, "formats": 2, "decoders": 3}
    | {"merge": 4},
    "lm": {"trie": 0, "windows": 0, "protocol": 0, "device": 0, "vocabulary": 0, "state_file": 0}
    | {"kenlm_file": 0, "model": 1, "training": 2, "ngram": 2, "engines": 3, "scoring": 4}
    | {"perplexity": 4, "fastest": 5, "low_rank_speed": 6, "open": 6, "elastic_speed": 7},
    "lm.engines": {
        "engine": 0,
        "cache": 0,
        "workers": 0,
        "native": 1,
        "pytorch": 1,
        "onnx_runtime": 2,
    }
    | {"fused": 2, "sparse": 2, "openvino": 3, "table": 4, "choice": 4},
    "prune": {"groups": 0, "masks": 0, "selection": 0, "statistics": 1, "criteria": 2, "paired": 2}
    | {"surgery": 3, "methods": 4, "run": 5, "recommend": 6},
    "exchange.exporters": {"numbers": 0, "exporter": 0, "rows": 1, "graphs": 2, "check": 3}
    | {"sentencepiece_proto": 0, "standard": 0, "modeling_asrprune": 0, "gguf_vocabulary": 1}
    | {"onnx_file": 4, "llama_cpp": 4, "plain_onnx": 5, "sherpa_onnx": 5, "hugging_face": 5}
    | {"torch_export": 5, "gguf": 5, "table": 6},
    "exchange.adapters": {"partner": 0, "tokens": 0, "incremental": 1, "flashlight": 2}
    | {"pyctcdecode": 2, "espnet": 2, "speechbrain": 2, "lm_scorer": 2},
    "rescore": {"scores_file": 0, "weights_file": 0, "lattices": 0, "decisions": 1, "merge": 1}
    | {"lmscore": 2, "nbest": 2, "tuning": 3, "bench": 3},
    "api": {"example": 0, "first_pass": 0, "lms": 0, "word_errors": 1, "scoring": 1}
    | {"rescoring": 1, "pruning": 1},
}
"""Folder -> the same for what stands in it, where that has parts that build on each other."""
LONGEST_MODULE = 450
NO_TORCH = ("core", "wer", "firstpass", "errors", "files", "provenance")


def _arrows(depth: int = 0) -> list[tuple[str, str, str]]:
    """(place, who imports, what it imports) for every import of our own package, as dotted names
    of ``depth`` + 1 parts at most, without ``asrprune.``."""
    return [(place, _cut(one, depth), _cut(other, depth)) for place, one, other in _imports()]


@functools.cache
def _imports() -> list[tuple[str, str, str]]:
    """The same with whole names."""
    modules = {_module(path) for path in PACKAGE.rglob("*.py")}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        source = _module(path)
        if source in ("", "__main__"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno}: relative import"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if _own(name) in modules else node.module or "" for name in names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                if name.startswith("asrprune.") and name != "asrprune.__version__":
                    found.append((f"{path}:{node.lineno}", source, _own(name)))
    return found


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _own(name: str) -> str:
    return name.removeprefix("asrprune.")


def _cut(name: str, depth: int) -> str:
    return ".".join(name.split(".")[: depth + 1])


def test_the_walk_sees_imports() -> None:
    assert len(_arrows()) > 20


def test_imports_point_to_earlier_folders_only() -> None:
    wrong = [
        f"{place}: {source} imports {target}"
        for place, source, target in _arrows()
        if source != target and LEVEL[source] <= LEVEL[target]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("folder", INSIDE)
def test_inside_a_folder_imports_point_one_way(folder: str) -> None:
    level, depth = INSIDE[folder], folder.count(".") + 1
    found = [arrow for arrow in _arrows(depth) if arrow[1].startswith(f"{folder}.")]
    assert found, f"no import inside {folder}"
    wrong = []
    for place, source, target in found:
        if not target.startswith(f"{folder}."):
            continue
        one, other = source.split(".")[depth], target.split(".")[depth]
        if one != other and level[one] <= level[other]:
            wrong.append(f"{place}: {one} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_no_module_is_long() -> None:
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in PACKAGE.rglob("*.py")}
    assert not {path: count for path, count in lines.items() if count > LONGEST_MODULE}


def test_modules_import_each_other_in_no_circle() -> None:
    arrows: dict[str, set[str]] = {}
    for _, source, target in _arrows(9):
        arrows.setdefault(source, set()).add(target)
    done: set[str] = set()

    def follow(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for target in sorted(arrows.get(module, ())):
                follow(target, (*path, module))
            done.add(module)

    for module in sorted(arrows):
        follow(module, ())


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
        "heavy = {'torch', 'k2', 'lhotse', 'pocketsphinx'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_module_is_named_after_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not [path for path in PACKAGE.rglob("*.py") if path.stem in vague]
