"""Threads that wait for each other sleep: spinning costs whoever shares the machine their cores."""

from __future__ import annotations

import os

SLEEPING = {
    "OMP_WAIT_POLICY": "PASSIVE",  # libgomp, and every other runtime of OpenMP
    "KMP_BLOCKTIME": "0",  # Intel's and LLVM's, which spin for 200 ms first
}
"""Environment variable -> its value for threads that sleep while they wait."""

CHOICES = (*SLEEPING, "GOMP_SPINCOUNT", "KMP_LIBRARY")
"""Variables with which users say themselves how threads wait."""


def let_waiting_threads_sleep() -> None:
    """Set SLEEPING for this process and those that it starts, unless one of CHOICES is set.

    To be called before torch is loaded: a runtime of OpenMP reads the environment once.
    """
    if not any(name in os.environ for name in CHOICES):
        os.environ.update(SLEEPING)
