"""SIGTERM ends a verb as an error does: temporary files go, one line says why."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn, Optional


class Terminated(BaseException):
    """The process was asked to end; no ``except Exception`` on the way holds it up."""


@contextlib.contextmanager
def terminated_in_order() -> Iterator[None]:
    """Within the block SIGTERM raises Terminated; a second one ends the process at once.

    A caller's own handling of SIGTERM stays, as does that of a thread beside the main one.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: Optional[FrameType]) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated
