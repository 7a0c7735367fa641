"""Megabytes without an end in any file that is read, and in any text: done or refused soon.

What takes a time that grows with the square of its input takes minutes to days for these, so the
limit, of processor time, is far from both.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import asrprune
from asrprune.core.units import UNITS
from asrprune.errors import InputError
from asrprune.text.normalise import NORMALISERS
from tests.bench.fuzz import Fuzz, Outcome, TooLong, in_a_child, limited
from tests.bench.fuzz_kinds import KINDS

SECONDS = 10.0
FILLS = (
    *("a", "A", "1", " ", "\t", '"', "'", "\\", "(", ")", "[", "]", "{", "}", "<", ">", "=", "/"),
    *(":", "-", "_", ".", ",", "|", "+", "#", "\u0301", "\u200c", "\u4eca", "\u0130", "\u2019"),
    *("<eps> ", "a ", "[a", "<a", "(a", "{ a / ", "{ a } ", "-a", "'a", "a,", "0.", "\\303", "=>"),
    *("!SIL ", "++a", ";;", "a(2)", "(2) ", "\u2047", "\u0344\u0316", "a=", ', "', "['a'"),
)
"""What is repeated: each has a meaning to some reader, normaliser or unit."""


TAKE_TEXT = {"text", "line", "word", "label", "literal", "field", "value", "raw"}
"""Names of parameters that hold a piece of a file."""


def _modules() -> Iterator[Any]:
    for module in pkgutil.walk_packages(asrprune.__path__, "asrprune."):
        if not module.name.startswith(("asrprune.cli", "asrprune.api", "asrprune.__main__")):
            yield importlib.import_module(module.name)


def _takes_text(function: Any) -> bool:
    first, *others = inspect.signature(function).parameters.values() or [None]
    return (
        first is not None
        and first.name in TAKE_TEXT
        and first.annotation in ("str", "bytes")
        and all(other.default is not other.empty for other in others)
    )


def _functions() -> dict[str, Callable[[Any], object]]:
    """All that make something of one text: by their signatures, and the tables."""
    found: dict[str, Callable[[Any], object]] = {}
    for module in _modules():
        for name, one in vars(module).items():
            here = inspect.isfunction(one) and one.__module__ == module.__name__
            if here and _takes_text(one):
                found[f"{module.__name__}.{name}"] = one
    found.update({f"NORMALISERS {name}": one for name, one in NORMALISERS.items()})
    found.update({f"UNITS {name}": one for name, one in UNITS.items()})
    return found


FUNCTIONS = _functions()


def _outcomes(function: Callable[[Any], object], size: int) -> Iterator[Outcome]:
    parameters = inspect.signature(function).parameters.values()
    for fill in FILLS:
        text: Any = fill * (size // len(fill.encode()))
        if next(iter(parameters)).annotation == "bytes":
            text = text.encode()
        start, failure = time.process_time(), ""
        try:
            with limited(SECONDS):
                function(text)
        except (InputError, ValueError):
            pass
        except TooLong:
            failure = f"more than {SECONDS:g} s"
        yield Outcome(0, 1e3 * (time.process_time() - start), 0.0, failure)


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzz]:
    torch = pytest.importorskip("torch")
    pytest.importorskip("kenlm")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked process cannot use the threads of this one
    yield Fuzz(tmp_path_factory.mktemp("long"), seconds=SECONDS)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_of_a_text(name: str) -> None:
    outcomes = in_a_child(lambda: _outcomes(FUNCTIONS[name], 1_000_000), 30 * SECONDS)
    assert {fill: one.failure for fill, one in zip(FILLS, outcomes) if one.failure} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_reader(name: str, fuzz: Fuzz) -> None:
    found = {FILLS[n]: one.failure for n, one in fuzz.long(name, FILLS, 1_000_000) if one.failure}
    assert found == {}
