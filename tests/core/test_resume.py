"""What makes a run the same, and what is said where it is not."""

from __future__ import annotations

import doctest
import json
import pickle

import pytest

import asrprune.core.resume
from asrprune.core.resume import AnotherRunError, check_same_run, difference, read_state
from asrprune.errors import InputError

NOW = {"config": {"lr": 0.5, "shares": (0.1, 0.2)}, "data": "abc"}


def test_doctests() -> None:
    assert doctest.testmod(asrprune.core.resume).failed == 0


def test_the_same_run_is_the_same_after_a_file() -> None:
    check_same_run("out", {"data": "abc", "config": {"lr": 0.5, "shares": [0.1, 0.2]}}, NOW)


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ({**NOW, "data": "x"}, 'data is "x" there, "abc" now'),
        ({**NOW, "config": {"lr": 1.0, "shares": [0.1, 0.2]}}, "config.lr is 1.0 there, 0.5 now"),
        ({**NOW, "more": None}, "more is null there, not given now"),
        ({"config": NOW["config"]}, 'data is not given there, "abc" now'),
        ({}, 'config is not given there, {"lr": 0.5, "shares": [0.1, 0.2]} now'),
        (None, 'config is not given there, {"lr": 0.5, "shares": [0.1, 0.2]} now'),
    ],
)
def test_another_run_is_named_by_what_differs(there: object, found: str) -> None:
    there = json.loads(json.dumps(there))
    with pytest.raises(AnotherRunError) as caught:
        check_same_run("out", there, NOW)
    message = f"out belongs to another run: {found}; remove it or choose another --out"
    assert str(caught.value) == message
    assert str(pickle.loads(pickle.dumps(caught.value))) == message
    assert isinstance(caught.value, InputError)


def test_a_long_value_is_cut() -> None:
    found = difference({"a": "x" * 500}, {"a": 1})
    assert found.startswith('a is "xxx')
    assert found.endswith("... there, 1 now")
    assert len(found) < 110


def test_damage_is_a_warning_and_no_state(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> int:
        raise EOFError

    assert read_state("f", lambda: 7) == 7
    assert not caplog.records
    assert read_state("out/state", fail) is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == "out/state is damaged (EOFError): what it held is done again"


def test_faults_that_are_no_damage_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        read_state("f", lambda: 1 // 0)
