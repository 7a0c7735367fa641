"""Records in temporary files: the same as in lists and dicts, whatever the ids' hashes are."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from asrprune.core import spool
from asrprune.core.spool import SortedLines, Spool, SpooledColumn, SpooledDict


@pytest.fixture(params=[0, 500, 1 << 20], ids=["on disk", "from memory to disk", "in memory"])
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


def test_places_are_read_and_records_added_in_the_midst_of_a_loop(in_memory):
    found: Spool[int] = Spool()
    places = [found.append(number) for number in range(50)]
    seen = []
    for number in found:
        assert found.at(places[49 - number]) == 49 - number
        seen.append(number)
    found.append(50)
    assert seen == list(range(50))
    assert list(found) == list(range(51))


def test_an_empty_spool(in_memory):
    assert len(Spool()) == 0
    assert list(Spool()) == []
    assert SpooledDict() == {}


def test_a_record_is_read_anew():
    found = Spool([[1]])
    next(iter(found)).append(2)
    assert list(found) == [[1]]


@pytest.mark.parametrize("kinds", [1, 3, 1 << 28])
def test_a_spooled_dict_is_a_dict(in_memory, monkeypatch, kinds):
    """With a single check for all ids, every one is told by what lies on disk."""
    monkeypatch.setattr(spool, "_check", lambda key: hash(key) % kinds * (2**28 // kinds))
    draw = random.Random(kinds)
    few = kinds < 100
    expected: dict[str, int] = {}
    found: SpooledDict[int] = SpooledDict()
    for number in range(90 if few else 2000):
        key = f"u{draw.randrange(60 if few else 1500)}"
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


def test_a_column_is_a_part_of_each_record():
    found = SpooledDict([("a", ("x", 1)), ("b", ("y", 2))])
    assert SpooledColumn(found, 0) == {"a": "x", "b": "y"}
    numbers = SpooledColumn[int](found, 1)
    assert list(numbers.values()) == [1, 2]
    assert len(numbers) == 2
    assert "b" in numbers
    assert numbers["b"] == 2


@pytest.mark.parametrize("at_once", [1, 7, 1000, 5000])
@pytest.mark.parametrize("count", [0, 1, 14, 2345])
def test_sorted_lines(at_once, count):
    draw = random.Random(count)
    lines = [f"{draw.randrange(count)} ä" for _ in range(count)]
    found = SortedLines(lines, at_once)
    assert len(found) == count
    assert list(found) == list(found) == sorted(lines)


def test_an_id_takes_few_bytes(monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", 1 << 12)
    tracemalloc.start()
    found = SpooledDict((f"speaker-{number:08d}", number) for number in range(10_000))
    lines = SortedLines((f"speaker-{number:08d}" for number in range(10_000)), 1000)
    size, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == len(lines) == 10_000
    assert size < 30 * 10_000
    assert peak < 45 * 10_000
