"""Threads that stay between calls."""

from __future__ import annotations

import threading
import time

import pytest

from asrprune.lm.engines.workers import Workers


def seen(workers: Workers, count: int, tasks: int = 8) -> set[int]:
    """The threads that computed, with tasks long enough that all of them take part."""

    def task(number: int) -> int:
        time.sleep(0.02)
        return threading.get_ident()

    return set(workers.map(count, task, range(tasks)))


def test_results_stand_in_the_order_of_the_tasks() -> None:
    def task(number: int) -> int:
        time.sleep(0.02 * (3 - number))
        return 10 * number

    for count in (1, 2, 4):
        assert Workers().map(count, task, range(4)) == [0, 10, 20, 30]


def test_one_at_once_is_computed_in_the_thread_that_asks() -> None:
    assert seen(Workers(), 1) == {threading.get_ident()}


def test_threads_stay_until_another_number_is_wanted() -> None:
    workers = Workers()
    first = seen(workers, 2)
    assert len(first) == 2
    assert threading.get_ident() not in first
    assert seen(workers, 2) == first
    assert len(seen(workers, 3)) == 3


def test_an_error_reaches_the_caller_and_the_next_call_works() -> None:
    workers = Workers()

    def task(number: int) -> int:
        if number == 1:
            raise MemoryError("no memory for a pass")
        return number

    with pytest.raises(MemoryError, match="for a pass"):
        workers.map(2, task, range(3))
    assert workers.map(2, abs, [-1, -2]) == [1, 2]


def test_threads_end_with_the_object() -> None:
    workers = Workers()
    before = set(threading.enumerate())
    seen(workers, 2)
    own = set(threading.enumerate()) - before  # those of other objects may end meanwhile
    assert len(own) == 2
    del workers
    for thread in own:
        thread.join(10.0)
        assert not thread.is_alive()
