"""A JSON object read key by key: what is missing or of another kind is named."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import pytest

from asrprune.core.config import shown
from asrprune.core.record import (
    Record,
    a,
    a_count,
    a_label,
    a_list_of,
    a_number,
    a_ratio,
    an_interval,
    an_object_of,
    one_of,
    parse_record,
    read_record,
)
from asrprune.errors import InputError


@dataclass(frozen=True)
class Size:
    width: int
    name: Optional[str] = None


@pytest.mark.parametrize(
    ("take", "value", "found"),
    [
        (a_count, -1, "k is -1; expected a whole number >= 0"),
        (a_count, True, "k is true; expected a whole number >= 0"),
        (a_count, 2**63, "expected a whole number >= 0"),
        (a_number, 10**400, "expected a number"),
        (a_number, "1", 'k is "1"; expected a number'),
        (a_ratio, 0, "k is 0; expected a number > 0"),
        (a_label, "a\nb", "expected one line of text"),
        (a_list_of(a_count), [1, -1], "expected a whole number >= 0, in a list"),
        (a_list_of(a_count), {}, "k is {}; expected a list"),
        (an_object_of(a_count), {"a": 1.5}, "expected a whole number >= 0, in an object"),
        (an_interval, [1], "expected a list of two numbers"),
        (one_of("a", "b"), ["a"], 'k is ["a"]; expected one of a, b'),
        (a(Size), {"width": 1.5}, "(width is 1.5; expected int)"),
        (a(Size), {"width": 2**63}, "(width is 9223372036854775808; expected a number of 64 bits)"),
        (a(Size), {}, "(no width; expected a setting that has no default)"),
        (a(Size), {"width": 1, "depth": 2}, "unknown key 'depth'"),
        (a(Size), [1], "k is [1]; expected an object"),
    ],
)
def test_what_is_of_another_kind_is_named(take: Any, value: Any, found: str) -> None:
    with pytest.raises(InputError) as caught:
        Record("x.json", {"k": value}, line=4).get("k", take)
    assert str(caught.value).startswith("x.json:4: ")
    assert found in str(caught.value)


def test_parts_know_their_place() -> None:
    record = parse_record("x", 2, json.dumps({"rows": [{"n": 1}, {"n": "a"}], "size": {}}))
    assert record.parts("rows")[0].get("n", a_count) == 1
    with pytest.raises(InputError, match=r'x:2: rows\[1\]\.n is "a"; expected a whole number'):
        record.parts("rows")[1].get("n", a_count)
    with pytest.raises(InputError, match=r"x:2: size\.width is missing"):
        record.part("size").get("width", a_count)
    with pytest.raises(InputError, match="rows is missing"):
        Record("x", {}).part("rows", 0)
    assert record.find("other", a_count) is None
    assert Record("x", {"k": {"width": 3}}).get("k", a(Size)) == Size(3)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([], "a list; expected a JSON object"),
        ({}, 'not a thing; expected "format": "thing"'),
        ({"format": ["thing"]}, 'not a thing (format ["thing"])'),
        ({"format": "thing", "version": 2}, "version 2; expected version 1"),
        ({"format": "thing", "version": True}, "version true; expected version 1"),
        ({"format": "thing"}, "version null; expected version 1"),
    ],
)
def test_another_format_is_named(tmp_path: Path, value: Any, found: str) -> None:
    (tmp_path / "x").write_text(json.dumps(value))
    with pytest.raises(InputError) as caught:
        read_record(tmp_path / "x").check_format("thing", 1, "a thing")
    assert found in str(caught.value)


def test_values_are_shown_in_few_characters() -> None:
    assert len(shown("x" * 10_000_000)) == 80
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "a value nested deep"
