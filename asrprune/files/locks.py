"""One process at an output: a second one stops with one line and touches nothing.

Whoever writes an output holds ``.NAME.lock`` beside it, a file locked by ``flock``, which the
system releases however the process ends. While it is held, ``.NAME.tmp`` and ``.NAME.old`` belong
to the holder, so what a killed process left under these names is put right by the next one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, Union

from asrprune.errors import InputError
from asrprune.files.streams import is_stream

try:
    import fcntl
except ImportError:  # no POSIX: one process at a time is up to the user
    fcntl = None  # type: ignore[assignment]

TEMPORARY, OLD, LOCK = ".tmp", ".old", ".lock"
"""Ends of the names beside an output: what is being written, what it replaces, the lock."""

LONGEST_NAME = 255
"""Bytes of a file's name on the file systems in use."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_held: set[tuple[int, str]] = set()
"""(process, real path) of the outputs that are locked; a forked child holds none of them."""

log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(path: Union[str, os.PathLike[str]]) -> Iterator[None]:
    """Hold the output ``path``, a file or folder to be, until the block ends.

    Within a process it may be held again, as may anything in a folder that is held; what is no
    file (``is_stream``) is not held. What a killed process left beside it is removed, and an output
    that it was about to replace comes back. Missing parent folders are made, and removed again if
    nothing was put into them. On a file system without locks a warning takes the lock's place.

    Raises InputError, naming the other process, when the output is held.
    """
    target = Path(os.path.realpath(path))
    if is_stream(path):
        yield
        return
    if is_held(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
        return
    made = _make_parents(target.parent)
    try:
        descriptor = _lock(target, path)
        mark = (os.getpid(), str(target))
        _held.add(mark)
        try:
            _put_right(target)
            yield
        finally:
            _held.discard(mark)
            if descriptor is not None:
                try:
                    beside(target, LOCK).unlink(missing_ok=True)
                finally:
                    os.close(descriptor)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # something is in it
                folder.rmdir()


def is_held(target: Path) -> bool:
    """Whether this process holds the real path ``target`` or a folder that it is in."""
    process = os.getpid()
    return any((process, str(place)) in _held for place in (target, *target.parents))


def beside(target: Path, end: str) -> Path:
    """The hidden name in the folder of ``target`` that ends on ``end``."""
    name = f".{target.name}{end}"
    if len(os.fsencode(name)) > LONGEST_NAME >= len(os.fsencode(target.name)):
        name = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()}{end}"
    return target.with_name(name)


def _make_parents(folder: Path) -> list[Path]:
    """Make ``folder``; those that were not there, innermost first."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _lock(target: Path, path: Union[str, os.PathLike[str]]) -> Optional[int]:
    """The descriptor of the locked file beside ``target``; None where there are no locks."""
    place = beside(target, LOCK)
    while fcntl is not None:
        try:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as problem:
            raise OSError(problem.errno, problem.strerror, os.fspath(path)) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(place), os.fstat(descriptor)):
                _sign(descriptor)
                return descriptor
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode("utf-8", "replace") or "another process"
            os.close(descriptor)
            expected = "one process at a time at an output"
            raise InputError(path, None, f"{holder} is writing it", expected) from None
        except FileNotFoundError:  # its holder has just removed it
            pass
        except OSError as problem:
            os.close(descriptor)
            if problem.errno not in _NO_LOCKS:
                raise
            place.unlink(missing_ok=True)
            log.warning("%s: no locks here (%s); let no other process write it", path, problem)
            return None
        os.close(descriptor)
    return None


def _sign(descriptor: int) -> None:
    """Say in a lock who holds it; on a full disk it holds without."""
    with contextlib.suppress(OSError):
        os.truncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())


def _put_right(target: Path) -> None:
    """Undo what a process that was killed at this output left beside it."""
    old = beside(target, OLD)
    if os.path.lexists(old) and not os.path.lexists(target):
        os.replace(old, target)
    for leftover in (old, beside(target, TEMPORARY)):
        remove(leftover)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it; neither need be there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
