"""Every field of every file of our own, taken away and made of other types: done, or one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bench.fuzz import Fuzz
from tests.bench.fuzz_kinds import KINDS

OTHERS: tuple[Any, ...] = (None, "\x00", -1, [[]], {"": {}})
"""What stands for a field in turns; that of its own type is a bad value."""
OWN = [
    name
    for name, kind in KINDS.items()
    if not name.startswith("format ") or name == "format jsonl"
    if {"json", "jsonl"} & set(kind.files.values())
]
FEW = 20
"""Fields of a file that are changed; those of a longer one are spread over it."""


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzz]:
    torch = pytest.importorskip("torch")
    pytest.importorskip("kenlm")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Fuzz(tmp_path_factory.mktemp("fields"))
    torch.set_num_threads(threads)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value[:2])
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, (dict, list)):
            yield from _places(inner, (*path, key))


def _changed(value: Any) -> Iterator[Any]:
    """The value without one of its fields, and with another in its place."""
    places = list(_places(value))
    for number, path in enumerate(places[:: max(1, len(places) // FEW)]):
        for other in ("missing", OTHERS[number % len(OTHERS)]):
            result = copy.deepcopy(value)
            holder = result
            for key in path[:-1]:
                holder = holder[key]
            if other == "missing":
                del holder[path[-1]]
            else:
                holder[path[-1]] = other
            yield path, other, result
    for other in OTHERS:
        yield (), other, other


def _files(content: str, text: str) -> Iterator[Any]:
    if content == "json":
        for path, other, value in _changed(json.loads(text)):
            yield path, other, json.dumps(value)
        return
    lines = text.splitlines()
    for number, line in enumerate(lines[:2]):  # the header and a record
        head, space, record = line.rpartition(" ") if line[0] != "{" else ("", "", line)
        if not record.startswith("{"):
            head, space, record = line.partition(" ")[0], " ", line.partition(" ")[2]
        if not record.startswith("{"):
            continue  # a place and an utterance of a shard's record
        for path, other, value in _changed(json.loads(record)):
            changed = [*lines[:number], head + space + json.dumps(value), *lines[number + 1 :]]
            yield path, other, "\n".join(changed) + "\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_each_field(name: str, fuzz: Fuzz) -> None:
    assert fuzz.check_whole(name) == []
    found, kind = {}, KINDS[name]
    for file in sorted(kind.files):
        if kind.files[file] not in ("json", "jsonl"):
            continue
        text = (fuzz.place(name, loose=True) / file).read_text()
        for number, (path, other, changed) in enumerate(_files(kind.files[file], text)):
            outcome = fuzz.given(name, file, changed.encode(), number)
            if outcome.failure:
                found[file, path, str(other)[:9]] = outcome.failure
    assert found == {}
