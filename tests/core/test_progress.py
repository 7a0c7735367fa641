"""Progress: lines in a log at times, a bar on a terminal, nothing in a process of a pool."""

from __future__ import annotations

import io
import sys

import pytest

from asrprune.core import progress
from asrprune.core.progress import FIRST_S, INTERVAL_S, Progress, tracked


@pytest.fixture(name="clock")
def _clock(monkeypatch):
    """A clock that is set by hand: a list of one time."""
    time = [0.0]
    monkeypatch.setattr(progress, "_clock", lambda: time[0])
    return time


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines(caplog):
    return [record.getMessage() for record in caplog.records]


def test_a_line_after_some_seconds_then_one_an_interval(clock, caplog):
    caplog.set_level("INFO")
    with Progress("scored", 400, "utt", done=100) as shown:
        shown.add(20)
        assert not lines(caplog)
        clock[0] = FIRST_S
        shown.add(30)
        assert lines(caplog) == ["scored: 150 of 400 utt, 38 %, 0:00:25 left"]
        clock[0] = FIRST_S + INTERVAL_S - 1
        shown.add(1)
        assert len(lines(caplog)) == 1
        clock[0] += 1
        shown.add(1)
    assert len(lines(caplog)) == 2


def test_without_a_total_it_counts(clock, caplog):
    caplog.set_level("INFO")
    made = []
    for item in tracked(iter("abc"), "read", "list"):
        made.append(item)
        clock[0] += FIRST_S
    assert made == list("abc")
    assert lines(caplog) == ["read: 1 list"]
    assert str(Progress("read", 0, "list")) == "read: 0 of 0 list"


def test_the_number_of_items_is_the_total(clock, caplog):
    caplog.set_level("INFO")
    for _ in tracked([1, 2], "read"):
        clock[0] += FIRST_S
    assert lines(caplog) == ["read: 1 of 2 utt, 50 %, 0:00:05 left"]


def test_a_bar_on_a_terminal_and_no_lines(clock, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(sys, "stderr", Terminal())
    for _ in tracked([1, 2], "read"):
        clock[0] += 100
    assert "read: 100%" in sys.stderr.getvalue()
    assert "2/2" in sys.stderr.getvalue()
    assert not lines(caplog)


def test_a_process_of_a_pool_is_silent(clock, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(progress.multiprocessing, "parent_process", lambda: object())
    monkeypatch.setattr(sys, "stderr", Terminal())
    for _ in tracked([1, 2], "read"):
        clock[0] += 100
    assert sys.stderr.getvalue() == ""
    assert not lines(caplog)
