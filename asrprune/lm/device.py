"""Which device and how many CPU threads torch computes with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Optional

import torch


def resolve_device(name: str) -> torch.device:
    """The torch device called ``name``; "auto" is the GPU if there is one.

    Of a GPU, torch no longer takes cuDNN's attention from here on, in this process: it plans anew
    for every new shape, which sentences have many of (80 ms each on an H200: most of the time).
    Raises ValueError for anything but a CPU or a CUDA device (others do not add up in float64, or
    hold no values at all), and for a GPU that is not there.
    """
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


def default_threads() -> int:
    """CPU threads where nobody said how many: OMP_NUM_THREADS, or one a core."""
    return int(torch.get_num_threads())


@contextlib.contextmanager
def cpu_threads(count: Optional[int]) -> Iterator[None]:
    """Inside the block torch computes with ``count`` CPU threads; None leaves them alone."""
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
