"""Work shared among processes that end with the one that started them.

A process of a common pool lives on when its parent is killed, and shows a traceback when Ctrl-C
reaches the whole group. Those of ``in_processes`` do neither: each watches its parent, Linux kills
it with the parent even while C code keeps Python from looking, and an interrupt ends it without a
word.
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
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Callable, TypeVar, cast

from asrprune.errors import InputError, MissingPackage
from asrprune.files import PathLike

Item = TypeVar("Item")
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1
_LAST_S = 5.0
"""Time for a process that has closed its connection to be gone."""


def in_processes(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    count: int,
    start: Callable[..., None],
    arguments: tuple[Any, ...],
    where: PathLike,
) -> Iterator[Result]:
    """``work(item)`` of every item, as each is done, in at most ``count`` processes.

    Each process calls ``start(*arguments)`` before its first item. An InputError, MissingPackage,
    ValueError or OSError of either is raised here, and the processes end. Raises InputError naming
    ``where`` when one dies, as it does where memory runs out or after another error.
    """
    # spawned, not forked: this process may hold threads of other libraries
    context = multiprocessing.get_context("spawn")
    todo = iter(items)
    busy: dict[Connection, BaseProcess] = {}
    every: list[BaseProcess] = []
    try:
        for _ in range(min(count, len(items))):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(
                target=_serve, args=(theirs, os.getpid(), work, start, arguments), daemon=True
            )
            with _interrupts_held():  # until it has said what one does to it
                process.start()
            theirs.close()
            busy[ours] = process
            every.append(process)
            _give(ours, next(todo))
        while busy:
            for connection in wait(list(busy)):
                connection = cast(Connection, connection)
                try:
                    done, found = connection.recv()
                except (EOFError, OSError):  # between two answers, or within one
                    raise _lost(busy[connection], where) from None
                if not done:
                    raise found
                for item in todo:
                    _give(connection, item)
                    break
                else:
                    del busy[connection]
                    connection.close()
                yield found
    finally:
        for connection, left in busy.items():
            left.kill()
            connection.close()
        for left in every:
            left.join()


def _give(connection: Connection, item: Any) -> None:
    with contextlib.suppress(ConnectionError):  # it is dead, and reading from it will say so
        connection.send(item)


def _lost(process: BaseProcess, where: PathLike) -> BaseException:
    """What to raise for a process that has closed its connection."""
    process.join(_LAST_S)
    status = process.exitcode or 0
    if status == -signal.SIGINT:
        return KeyboardInterrupt()  # of the group: this process gets its own in a moment
    found = f"a process that was started for it ended with status {status}"
    if status < 0:
        found = f"a process that was started for it died of {signal.Signals(-status).name}"
    if status == -signal.SIGKILL:
        found += ", as one does when memory runs out"
    expected = "it to live; the same command goes on, with a smaller --nj if this recurs"
    return InputError(where, None, found, expected)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """A process that starts in the block gets no SIGINT before it asks for it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(
    connection: Connection,
    parent: int,
    work: Callable[[Any], Any],
    start: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    """In a new process: answer items with (True, result) or (False, error) until there are none."""
    _end_with(parent)
    started = False
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        try:
            if not started:
                start(*arguments)
                started = True
            answer = (True, work(item))
        except (InputError, MissingPackage, ValueError, OSError) as problem:
            answer = (False, problem)
        connection.send(answer)


def _end_with(parent: int) -> None:
    """Let this process end when its parent does, and at an interrupt."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _watch(parent: int) -> None:
    process = multiprocessing.parent_process()
    if process is not None and os.getppid() == parent:  # it may be gone already
        wait([process.sentinel])
    os._exit(1)
