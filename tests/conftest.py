"""What pytest leaves alone, what spares it time, and the signals that tests send."""

from __future__ import annotations

import gc
import signal

collect_ignore = ["bench"]  # scripts that measure; --doctest-modules would import them


def pytest_configure() -> None:
    """Let Ctrl-C interrupt, which a shell takes from what it starts in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Take what is imported by now, torch and all, out of the garbage collector's rounds."""
    gc.freeze()
