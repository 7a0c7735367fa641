"""Configuration from JSON and ``key=value``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

import pytest

from asrprune.core.config import first_difference, flat, from_json, to_json
from asrprune.errors import InputError


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    name: str = "a"

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError(f"rate is {self.rate}; expected 0 or more")


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    steps: int = 3
    limit: Optional[int] = None
    quick: bool = False


def test_defaults_and_round_trip() -> None:
    assert from_json(Outer, {}, "x") == Outer()
    config = Outer(Inner(0.25, "b"), 7, 9, True)
    assert from_json(Outer, to_json(config), "x") == config


def test_overrides_win_and_ints_become_floats() -> None:
    value = {"inner": {"rate": 2, "name": "b"}, "steps": 4}
    config = from_json(Outer, value, "x", ["inner.rate=1", "limit=5", "quick=true", "steps=6"])
    assert config == Outer(Inner(1.0, "b"), 6, 5, True)
    assert type(config.inner.rate) is float
    assert from_json(Outer, {"limit": 3}, "x", ["limit=null"]).limit is None
    assert from_json(Outer, {}, "x", ["inner.name=b=c"]).inner.name == "b=c"
    assert value == {"inner": {"rate": 2, "name": "b"}, "steps": 4}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"stepz": 1}, "unknown key 'stepz'; did you mean 'steps'"),
        ({"inner": {"rat": 1}}, "unknown key 'inner.rat'; did you mean 'inner.rate'"),
        ({"steps": "1"}, 'steps is "1"; expected int'),
        ({"steps": 1.0}, "steps is 1.0; expected int"),
        ({"steps": True}, "steps is true; expected int"),
        ({"steps": None}, "steps is null; expected int"),
        ({"limit": "x"}, 'limit is "x"; expected int or null'),
        ({"quick": 1}, "quick is 1; expected bool"),
        ({"inner": 3}, "inner is 3, not a JSON object"),
        ([1], "not a JSON object"),
        ({"inner": {"rate": -1}}, "rate is -1.0; expected 0 or more"),
    ],
)
def test_bad_file(value: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        from_json(Outer, value, "conf.json")
    assert str(caught.value).startswith("conf.json: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rate=1", "did you mean 'inner.rate'"),
        ("inner=3", "unknown key 'inner'"),
        ("steps", "expected key=value"),
        ("=3", "expected key=value"),
        ("steps=x", 'steps is "x"; expected int'),
        ("inner.rate=NaN", "expected a finite number"),
        ("inner.rate=-1", "expected 0 or more"),
    ],
)
def test_bad_override(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(Outer, {}, "x", [override])


def test_flat_and_difference() -> None:
    assert flat(Outer()) == {
        "inner.rate": 0.5,
        "inner.name": "a",
        "steps": 3,
        "limit": None,
        "quick": False,
    }
    one = to_json(Outer())
    assert first_difference(one, to_json(Outer())) == ""
    assert first_difference(one, to_json(Outer(Inner(name="b")))) == "inner.name"
    assert first_difference(one, {**one, "more": None}) == "more"
    assert first_difference({**one, "more": None}, one) == "more"
