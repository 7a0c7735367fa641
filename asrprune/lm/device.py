"""Which device and how many CPU threads torch computes with, and what they take for 0."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Optional, Union

import torch


def resolve_device(name: Union[str, torch.device]) -> torch.device:
    """The torch device called ``name``; "auto" is the GPU if there is one.

    Of a GPU, torch no longer takes cuDNN's attention from here on, in this process: it plans anew
    for every new shape, which sentences have many of (80 ms each on an H200: most of the time).
    Raises ValueError for anything but a CPU or a CUDA device (others do not add up in float64, or
    hold no values at all), and for a GPU that is not there.
    """
    name = str(name)
    if name == "auto":
        return _without_plans(torch.device("cuda:0" if torch.cuda.is_available() else "cpu"))
    device = None
    if name == "cpu" or name.partition(":")[0] == "cuda":
        with contextlib.suppress(RuntimeError):
            device = torch.device(name)
    if device is None:
        raise ValueError(f"unknown device {name!r}; expected auto, cpu, cuda, cuda:1, ...")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is not there: {torch.cuda.device_count()} GPUs found")
    return _without_plans(device)


def _without_plans(device: torch.device) -> torch.device:
    if device.type == "cuda" and hasattr(torch.backends.cuda, "enable_cudnn_sdp"):
        torch.backends.cuda.enable_cudnn_sdp(False)
    return device


SUBNORMAL = sys.float_info.min / 2
"""Above 0, but for a thread that takes such small numbers for 0."""


@contextlib.contextmanager
def without_denormals() -> Iterator[None]:
    """Inside the block numbers nearer to 0 than 1.2e-38 are 0 in this thread, and in those CPU
    threads of torch that first come up inside it. To be used as a decorator too.

    A CPU takes many times as long for such numbers. LMs make them when they have been trained for
    long, of what is far from 0 in the tanh of GELU and in attention: until then they do not show in
    any timing. Without them such an LM is scored and trained in less time, and comes to the same
    (tests/bench/RESULTS.md).
    """
    if SUBNORMAL == 0.0:
        yield
        return
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextlib.contextmanager
def without_autocast() -> Iterator[None]:
    """Inside the block products are in the numbers of the weights, whatever ``torch.autocast`` says
    around it. To be used as a decorator too."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


def default_threads() -> int:
    """CPU threads where nobody said how many: OMP_NUM_THREADS, or one a core."""
    return int(torch.get_num_threads())


class _Blocks:
    """The blocks of ``cpu_threads`` that are open in any Python thread of the process.

    A thread has a count of its own, and begins with that which any thread has set last: with the
    one inside a block of another, if there is one. What to go back to is then what was outside.
    """

    def __init__(self) -> None:
        self._open = 0
        self._outside = 0
        self._mine = threading.local()
        self.unlock()
        os.register_at_fork(after_in_child=self.unlock)

    def unlock(self) -> None:
        """Forget a thread that held the lock, as it does not live on in a forked process."""
        self._lock = threading.Lock()

    def enter(self, count: int) -> int:
        """Take ``count`` for this thread; what it had."""
        with self._lock:
            new = self._open and not hasattr(self._mine, "seen")
            other = new and threading.current_thread() is not threading.main_thread()
            before = self._outside if other else torch.get_num_threads()
            self._mine.seen = True
            if not self._open:
                self._outside = before
            self._open += 1
            torch.set_num_threads(count)
            return before

    def leave(self, before: int) -> None:
        with self._lock:
            self._open -= 1
            torch.set_num_threads(before)


_BLOCKS = _Blocks()


@contextlib.contextmanager
def cpu_threads(count: Optional[int]) -> Iterator[None]:
    """Inside the block torch computes with ``count`` CPU threads in this Python thread, and behind
    it with as many as before; None leaves them alone."""
    if count is None:
        yield
        return
    before = _BLOCKS.enter(count)
    try:
        yield
    finally:
        _BLOCKS.leave(before)
