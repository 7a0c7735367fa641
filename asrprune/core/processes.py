"""Work shared among processes that end with the one that started them.

A process of a pool lives on when its parent is killed, and shows a traceback when Ctrl-C reaches
the whole group. Those of ``in_processes`` do neither: each holds one end of a pipe that closes with
the parent, Linux kills it with the parent even while C code keeps Python from looking at the pipe,
and an interrupt ends it without a word.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection, wait
from typing import Any, Callable, TypeVar

from asrprune.errors import InputError
from asrprune.files import PathLike

Item = TypeVar("Item")
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1

_own: dict[str, Any] = {}
"""In a process of the pool: what it has to do before its first item."""


def in_processes(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    count: int,
    start: Callable[..., None],
    arguments: tuple[Any, ...],
    where: PathLike,
) -> Iterator[Result]:
    """``work(item)`` of every item, as each is done, in at most ``count`` processes.

    Each process calls ``start(*arguments)`` before its first item. What either of them raises is
    raised here, and the processes end. Raises InputError naming ``where`` when a process dies, as
    it does where the kernel runs out of memory.
    """
    count = min(count, len(items))
    # spawned, not forked: this process may hold threads of other libraries
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(count, context, _begin, (theirs, os.getpid(), (start, arguments)))
    done = False
    try:
        with _interrupts_held():  # until a new process has said what one does to it
            futures = [pool.submit(_do, work, item) for item in items]
        for future in as_completed(futures):
            yield future.result()
        done = True
    except BrokenProcessPool:
        found = f"one of {count} processes died, as they do when memory runs out"
        expected = "all to live: give the same command again, with a smaller --nj if it recurs"
        raise InputError(where, None, found, expected) from None
    finally:
        if not done:
            ours.close()  # which ends them now, not after what they are at
        pool.shutdown(wait=True, cancel_futures=True)
        ours.close()
        theirs.close()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that start in the block get no SIGINT before they ask for it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(lifeline: Connection, parent: int, start: tuple[Callable[..., None], Any]) -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_end_with, args=(lifeline, parent), daemon=True).start()
    _own["start"] = start


def _end_with(lifeline: Connection, parent: int) -> None:
    """End this process when the other end of ``lifeline`` closes."""
    if os.getppid() == parent:  # it may be gone already
        wait([lifeline])
    os._exit(1)


def _do(work: Callable[[Item], Result], item: Item) -> Result:
    if "start" in _own:
        start, arguments = _own["start"]
        start(*arguments)
        del _own["start"]
    return work(item)
