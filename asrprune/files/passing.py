"""Folders for the time of a block, which no killed process leaves behind for good."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from asrprune.files.locks import remove
from asrprune.files.reading import PathLike

try:
    import fcntl
except ImportError:  # no POSIX: what a killed process left stays
    fcntl = None  # type: ignore[assignment]

_PREFIX, _LOCK = "asrprune-passing-", ".lock"
_YOUNG_S = 60.0
"""A folder of less than this age may belong to a process that is about to lock it."""


@contextlib.contextmanager
def passing_folder(parent: Optional[PathLike] = None) -> Iterator[Path]:
    """A folder in ``parent`` (default: the system's place for temporary files) that nobody else may
    read, until the block ends. What killed processes of this user left there is removed."""
    place = Path(os.path.realpath(parent or tempfile.gettempdir()))
    _remove_left(place)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    try:
        with open(folder / _LOCK, "wb") as lock:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        remove(folder)


def _remove_left(place: Path) -> None:
    if fcntl is None:
        return
    for folder in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another process is removing it as well
            state = folder.lstat()
            old = time.time() - state.st_mtime > _YOUNG_S
            if old and stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid():
                with contextlib.ExitStack() as stack:
                    with contextlib.suppress(FileNotFoundError):
                        lock = stack.enter_context(open(folder / _LOCK, "rb"))
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove(folder)
