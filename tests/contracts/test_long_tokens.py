"""Megabytes without an end in any file that is read, and in any text: done or refused soon.

What takes a time that grows with the square of its input takes minutes to days for these, so the
limit, of processor time, is far from both.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

import asrprune
from asrprune.core.units import UNITS
from asrprune.errors import InputError
from asrprune.text.normalise import NORMALISERS
from tests.bench.fuzz import Fuzz, Outcome, TooLong, in_a_child, limited
from tests.bench.fuzz_kinds import KINDS

SIZE, SECONDS = 1_000_000, 30.0
FEW = ("a", " ", "(", "[", "<", "0.", "\u0344\u0316", "{ a / ")
REST = (
    *("A", "1", "\t", '"', "'", "\\", ")", "]", "{", "}", ">", "=", "/"),
    *(":", "-", "_", ".", ",", "|", "+", "#", "\u0301", "\u200c", "\u4eca", "\u0130", "\u2019"),
    *("<eps> ", "a ", "[a", "<a", "(a", "{ a } ", "-a", "'a", "a,", "\\303", "=>"),
    *("!SIL ", "++a", ";;", "a(2)", "(2) ", "\u2047", "a=", ', "', "['a'"),
)
FILLS = (*FEW, *REST)
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


def _outcomes(
    function: Callable[[Any], object], fills: Iterable[str], seconds: float = SECONDS
) -> Iterator[Outcome]:
    first = next(iter(inspect.signature(function).parameters.values()))
    for fill in fills:
        text: Any = fill * (SIZE // len(fill.encode()))
        start, failure = time.process_time(), ""
        try:
            with limited(seconds):
                function(text.encode() if first.annotation == "bytes" else text)
        except (InputError, ValueError):
            pass  # refused, in time
        except TooLong:
            failure = f"more than {seconds:g} s"
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
@pytest.mark.parametrize("fills", [FEW, pytest.param(REST, marks=pytest.mark.slow)])
def test_every_function_of_a_text(name: str, fills: tuple[str, ...]) -> None:
    outcomes = in_a_child(lambda: _outcomes(FUNCTIONS[name], fills), 20 * SECONDS)
    assert {fill: one.failure for fill, one in zip(fills, outcomes) if one.failure} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_reader(name: str, fuzz: Fuzz) -> None:
    """By each verb that reads it. Alignment of so many characters takes long without squares."""
    size = SIZE // 4 if name.startswith("text ") else SIZE
    found = {FILLS[n]: one.failure for n, one in fuzz.long(name, FILLS, size) if one.failure}
    assert found == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_ten_megabytes_in_every_file(name: str, fuzz: Fuzz) -> None:
    if not name.startswith("text "):
        assert [one.failure for _, one in fuzz.long(name, "a1", 10 * SIZE)] in ([], ["", ""])


def test_a_square_is_found() -> None:
    """By the alarm within an expression, and from outside where a library does not hear it."""
    slow = re.compile(r"(?:a+b|c)$")
    found = list(in_a_child(lambda: _outcomes(slow.search, ("a",), 1.0), 20 * SECONDS))
    assert [one.failure for one in found] == ["more than 1 s"]
    deaf = list(in_a_child(lambda: _outcomes(_marks, ("\u0301\u0316",), 1.0), 3.0))
    assert [one.failure for one in deaf] == ["the process ended by SIGKILL"]


def _marks(text: str) -> str:
    return unicodedata.normalize("NFC", text)
