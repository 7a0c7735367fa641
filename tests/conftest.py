"""What pytest leaves alone, and what spares it time."""

from __future__ import annotations

import gc

collect_ignore = ["bench"]  # scripts that measure; --doctest-modules would import them


def pytest_collection_finish() -> None:
    """Take what is imported by now, torch and all, out of the garbage collector's rounds."""
    gc.freeze()
