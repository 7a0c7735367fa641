"""Records in temporary files: the same as in lists and dicts, whatever the ids' hashes are."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import asrprune
from asrprune.core import spool
from asrprune.core.spool import SortedLines, Spool, SpooledColumn, SpooledDict, SpooledSet


@pytest.fixture(params=[1, 500, 1 << 20], ids=["on disk", "from memory to disk", "in memory"])
def in_memory(request, monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", request.param)


def records(count):
    return [
        ("x" * (number % 7), number, None if number % 3 else [number]) for number in range(count)
    ]


def test_a_spool_is_a_list(in_memory):
    expected = records(100)
    found = Spool(expected)
    assert len(found) == 100
    assert list(found) == list(found) == expected
    assert expected[7] in found
    assert "y" not in found


def test_it_is_read_and_added_to_in_the_midst_of_a_loop(in_memory):
    found = Spool(range(50))
    seen = []
    for number in found:
        assert next(iter(found)) == 0
        found.append(50 + number)
        seen.append(number)
    assert seen == list(range(50))
    assert list(found) == list(range(100))


def test_an_empty_spool(in_memory):
    assert len(Spool()) == 0
    assert list(Spool()) == []
    assert SpooledDict() == {}


def test_a_record_is_read_anew():
    found = Spool([[1]])
    next(iter(found)).append(2)
    assert list(found) == [[1]]


@pytest.mark.parametrize("few", [0, 3, 10_000])
def test_a_spooled_set_is_a_set(few, monkeypatch):
    monkeypatch.setattr(spool, "FEW", few)
    found = SpooledSet()
    assert not found
    for key in ("a", "b", "a", "", "\u00e9", "b", "c"):
        found.add(key)
    assert len(found) == 5
    assert all(key in found for key in ("a", "b", "", "\u00e9", "c"))
    assert "d" not in found


@pytest.mark.parametrize("few", [0, 1, 700, 10_000])
def test_a_spooled_dict_is_a_dict(few, monkeypatch):
    monkeypatch.setattr(spool, "FEW", few)
    monkeypatch.setattr(spool, "CACHE_KIB", 4)
    draw = random.Random(0)
    expected: dict[str, int] = {}
    found: SpooledDict[int] = SpooledDict()
    for number in range(2000):
        key = f"ü{draw.randrange(1500)}"
        assert (key in found) == (key in expected)
        assert found.get(key) == expected.get(key)
        assert found.setdefault(key, number) == expected.setdefault(key, number)
    assert found == expected
    assert list(found) == list(expected)
    assert list(found.items()) == list(expected.items())
    assert list(found.values()) == list(expected.values())
    assert len(found) == len(expected)
    assert found.keys() == expected.keys()
    assert 7 not in found
    with pytest.raises(KeyError):
        found["nobody"]
    for key in ("", "\0", "\0a", "\ud800", "Ü0"):  # what is like an id, or no text
        assert key not in found
        found.setdefault(key, -1)
        assert (found[key], list(found)[-1]) == (-1, key)


def test_a_column_is_a_part_of_each_record():
    found = SpooledDict([("a", ("x", 1)), ("b", ("y", 2))])
    assert SpooledColumn(found, 0) == {"a": "x", "b": "y"}
    numbers = SpooledColumn[int](found, 1)
    assert list(numbers.values()) == [1, 2]
    assert len(numbers) == 2
    assert "b" in numbers
    assert numbers["b"] == 2


@pytest.mark.parametrize("count", [0, 1, 14, 2345])
def test_sorted_lines(count):
    draw = random.Random(count)
    odd = ["", "\U0001f600", "\ufffd", "a\0", "a"][:count]
    lines = [f"{draw.randrange(count)} ä" for _ in range(count - len(odd))] + odd
    found = SortedLines(lines)
    assert len(found) == count
    assert list(found) == list(found) == sorted(lines)


FULL = """
import resource, sys
import asrprune
from asrprune.core import spool
spool.CACHE_KIB = 4
spool.IN_MEMORY = 1
spool.FEW = 10
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
lines = (f"{number:0100d}" for number in range(10_000))
kind = getattr(spool, sys.argv[1])
try:
    kind(zip(lines, lines) if kind is spool.SpooledDict else lines)
except OSError as problem:
    print(problem)
"""


@pytest.mark.parametrize("kind", ["Spool", "SpooledDict", "SortedLines"])
def test_a_full_disk_is_an_error_that_names_the_place(kind, tmp_path):
    package = str(Path(asrprune.__file__).parents[1])
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": package}
    environment.pop("SQLITE_TMPDIR", None)
    command = [sys.executable, "-c", FULL, kind]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert str(tmp_path) in ended.stdout
    assert not list(tmp_path.iterdir())
