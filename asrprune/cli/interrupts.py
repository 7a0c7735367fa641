"""SIGTERM and Ctrl-C end a verb as an error does: temporary files go, one line says why. One of
torchrun's processes ends with torchrun."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn, Optional


class Terminated(BaseException):
    """The process was asked to end; no ``except Exception`` on the way holds it up."""


@contextlib.contextmanager
def terminated_in_order() -> Iterator[None]:
    """Within the block SIGTERM raises Terminated; a second one ends the process at once.

    Where SIGINT raises KeyboardInterrupt it still does. Either leaves the block also where a
    library that was busy makes an error of its own of it, as torch does when it writes a file. A
    caller's own handling of a signal stays, as does that of a thread beside the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[BaseException] = []

    def terminate(number: int, frame: Optional[FrameType]) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        asked.append(Terminated())
        raise asked[-1]

    def interrupt(number: int, frame: Optional[FrameType]) -> NoReturn:
        asked.append(KeyboardInterrupt())
        raise asked[-1]

    with (
        _handled(signal.SIGTERM, signal.SIG_DFL, terminate),
        _handled(signal.SIGINT, signal.default_int_handler, interrupt),
    ):
        try:
            yield
        except Exception:
            if asked:
                raise asked[-1] from None
            raise


@functools.cache
def end_with_torchrun() -> None:
    """Let a process that torchrun started end when torchrun has been killed without a word to it:
    it would wait for the others, hold its outputs, and answer those of the next run."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=_look_for, args=(os.getppid(),), daemon=True).start()


def _look_for(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


@contextlib.contextmanager
def _handled(number: signal.Signals, instead_of: object, handler: object) -> Iterator[None]:
    """Within the block ``handler`` takes the signal, if ``instead_of`` does so far."""
    if signal.getsignal(number) is not instead_of:
        yield
        return
    signal.signal(number, handler)  # type: ignore[arg-type]
    try:
        yield
    finally:
        signal.signal(number, instead_of)  # type: ignore[arg-type]
