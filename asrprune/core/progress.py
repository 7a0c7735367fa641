"""How far long work is: a bar on a terminal, else a line in the log from time to time."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Optional, TypeVar

Item = TypeVar("Item")

FIRST_S, INTERVAL_S = 5.0, 30.0
"""Seconds until the first line in a log, and from one to the next: short work says nothing."""

log = logging.getLogger(__name__)
_clock = time.monotonic


class Progress:
    """``done`` of ``total`` (None: unknown) ``unit`` of ``what``, shown while the block runs.

    On a terminal a bar of tqdm with the time that is left; elsewhere lines in the log that say the
    same. A process that another one started shows nothing: that one does. Of those that torchrun
    started the first shows it.
    """

    def __init__(self, what: str, total: Optional[float], unit: str, done: float = 0) -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self._before = done  # of a run that went on: no part of the speed
        self._started = _clock()
        self._next = self._started + FIRST_S
        alone = multiprocessing.parent_process() is None
        self._shown = alone and os.environ.get("RANK", "0") == "0"
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if self._shown and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(desc=self.what, total=self.total, unit=self.unit, initial=self.done)
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        problem: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, count: float = 1) -> None:
        """So much more is done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif self._shown and _clock() >= self._next:
            self._next = _clock() + INTERVAL_S
            log.info("%s", str(self))

    def __str__(self) -> str:
        """``scored: 120 of 540 utt, 22 %, 0:01:10 left``."""
        if self.total is None:
            return f"{self.what}: {self.done:,.0f} {self.unit}"
        text = f"{self.what}: {self.done:,.0f} of {self.total:,.0f} {self.unit}"
        text += f", {100 * self.done / self.total:.0f} %" if self.total else ""
        made = self.done - self._before
        if made > 0:
            left = (_clock() - self._started) * (self.total - self.done) / made
            text += f", {_hours(left)} left"
        return text


def tracked(
    items: Iterable[Item],
    what: str,
    unit: str = "utt",
    total: Optional[int] = None,
    done: int = 0,
) -> Iterator[Item]:
    """The items, counted as they are asked for; ``total`` is by default their number, where they
    have one."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Progress(what, total, unit, done) as progress:
        for item in items:
            yield item
            progress.add()


def _hours(seconds: float) -> str:
    """
    >>> _hours(4000)
    '1:06:40'
    """
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
