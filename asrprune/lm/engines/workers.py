"""Threads that compute passes at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class Workers:
    """Threads that stay from call to call, as a kernel keeps its memory for a thread's next pass;
    they end with this object."""

    def __init__(self) -> None:
        self._count = 0
        self._pool: ThreadPoolExecutor | None = None

    def map(
        self, count: int, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> list[Result]:
        """``function`` of every task in order, ``count`` of them at once; alone in this thread."""
        if count == 1:
            return [function(task) for task in tasks]
        if self._pool is None or count != self._count:
            self._count, self._pool = count, ThreadPoolExecutor(count)
        return list(self._pool.map(function, tasks))
