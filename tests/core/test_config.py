"""Configuration from JSON and ``key=value``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import pytest

from asrprune.core.config import (
    first_difference,
    flat,
    from_json,
    from_values,
    replaced,
    to_json,
)
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


@dataclass(frozen=True)
class Whole:
    """Fields of every kind; ``inner`` has other defaults here than its type."""

    size: int
    inner: Inner = field(default_factory=lambda: Inner(0.75, "c"))
    shares: tuple[float, ...] = (0.5,)
    names: tuple[str, ...] = ()
    free: Mapping[str, Any] = field(default_factory=lambda: {"theta": 1.0})


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


def test_keys_of_a_file_may_be_dotted() -> None:
    assert from_json(Outer, {"inner.rate": 2, "steps": 4}, "x") == Outer(Inner(2.0), 4)
    mixed = {"inner": {"name": "b"}, "inner.rate": 2}
    assert from_json(Outer, mixed, "x") == Outer(Inner(2.0, "b"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"inner": {"rate": 1}, "inner.rate": 2}, "inner.rate is given twice"),
        ({"inner.rates": 1}, "unknown key 'inner.rates'; did you mean 'inner.rate'"),
        ({"inner.rate.x": 1}, "unknown key 'inner.rate.x'"),
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
        ("steps", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
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


def test_lists_become_tuples_of_their_type() -> None:
    config = from_values(Whole, {"size": 1, "shares": [1, 0.25], "names": ["a"]})
    assert config == Whole(1, shares=(1.0, 0.25), names=("a",))
    assert [type(share) for share in config.shares] == [float, float]
    assert from_values(Whole, {"size": 1, "shares": []}).shares == ()
    assert replaced(config, {}, ['names=["b", "c"]']).names == ("b", "c")
    assert to_json(config)["shares"] == [1.0, 0.25]
    assert from_values(Whole, to_json(config)) == config


def test_a_nested_default_is_that_of_the_field_not_of_its_type() -> None:
    assert from_values(Whole, {"size": 1, "inner": {"rate": 0.25}}).inner == Inner(0.25, "c")
    assert from_json(Whole, {"size": 1}, "x", ["inner.name=d"]).inner == Inner(0.75, "d")


def test_free_settings_take_any_scalar() -> None:
    given = {"theta": 2, "wide": True, "name": "x", "none": None, "eps": 1e-5}
    config = from_values(Whole, {"size": 1, "free": given})
    assert config.free == given
    assert type(config.free["theta"]) is int
    assert to_json(config)["free"] == given
    changed = replaced(config, {}, ["free.theta=1e6", "free.new=abc", "free.a.b=1"])
    assert changed.free == {**given, "theta": 1e6, "new": "abc", "a.b": 1}
    assert config.free == given
    assert replaced(config, {"free": {"only": 1}}).free == {"only": 1}
    assert replaced(config, {}, ["free.theta=3", "free={}"]).free == {}
    assert from_json(Whole, {"size": 1}, "x", ["free.eps=0.1"]).free == {"theta": 1.0, "eps": 0.1}


def test_replaced_starts_from_what_is_there() -> None:
    start = Outer(Inner(0.25, "b"), 7, 9, True)
    assert replaced(start, {}) == start
    assert replaced(start, {"inner": {"name": "z"}, "limit": None}) == Outer(
        Inner(0.25, "z"), 7, None, True
    )
    assert replaced(start, {"steps": 1}, ["steps=2", "inner.rate=1"]) == Outer(
        Inner(1.0, "b"), 2, 9, True
    )
    assert from_json(Outer, {"steps": 1}, "x", ["limit=4"], start) == Outer(
        Inner(0.25, "b"), 1, 4, True
    )


def test_what_is_impossible_only_for_a_moment_is_possible() -> None:
    assert replaced(Outer(), {"inner": {"rate": -1}}, ["inner.rate=1"]).inner.rate == 1.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "no size; expected a setting that has no default"),
        ({"size": 1, "shares": 0.5}, "shares is 0.5; expected a list of float"),
        ({"size": 1, "shares": "ab"}, 'shares is "ab"; expected a list of float'),
        ({"size": 1, "shares": [0.5, "x"]}, 'shares[1] is "x"; expected float'),
        ({"size": 1, "names": [1]}, "names[0] is 1; expected str"),
        ({"size": 1, "free": [1]}, "free is [1], not a JSON object"),
        ({"size": 1, "free": {"a": [1]}}, "free.a is [1]; expected bool or int or float or str"),
        ({"size": 1, "free": {"a": float("inf")}}, "free.a is inf; expected a finite number"),
        ({"size": 1, "fre": {}}, "unknown key 'fre'; did you mean 'free'"),
        ({"size": object()}, "expected int"),
    ],
)
def test_bad_values(values: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        from_values(Whole, values)
    assert message in str(caught.value)


def test_what_a_file_lacks_is_said_once() -> None:
    with pytest.raises(InputError) as caught:
        from_json(Whole, {"size": "x"}, "conf.json")
    assert str(caught.value) == 'conf.json: size is "x"; expected int'
