"""What is kept from one start to the next, compiled code and choices of engines: in folders that
nobody else can write.

Code that is loaded from there runs as this user, so the folder, all folders above it up to the home
and the files must belong to the user or to root and be closed to others. A folder above may be open
to all if it is sticky, as ``/tmp`` is: there nobody replaces what is not theirs. It may be open to
the user's private group, the one of the user's name without other members, which distributions with
umask 002 give to each user. Links are followed first, so it is the place itself that is looked at.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from asrprune.files import passing_folder

log = logging.getLogger(__name__)
COMPILED, CHOSEN = "compiled", "engines"
"""Folders of the cache."""

_NOT_KEPT = "%s not kept for the next start: %s"
_KEPT = {COMPILED: "compiled code is", CHOSEN: "choices of engines are"}


def cache_folder(name: str = COMPILED) -> Path:
    """Where that would be kept: in $XDG_CACHE_HOME/asrprune, else in that of ~/.cache.

    Raises RuntimeError where no home is known.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "asrprune" / name


def private_cache(name: str = COMPILED) -> Optional[Path]:
    """That folder, made if it is not there, its links followed; None, with one line in the log,
    where it cannot be made or others can write."""
    try:
        return _checked(cache_folder(name), name)
    except RuntimeError as problem:
        log.warning(_NOT_KEPT, _KEPT[name], problem)
        return None


@contextlib.contextmanager
def private_temporary() -> Iterator[Path]:
    """A folder for the time of the block. Raises PermissionError where others could replace it."""
    with passing_folder() as folder:
        reason = open_to_others(folder)
        if reason:
            raise PermissionError(reason)
        yield folder


@functools.cache
def _checked(folder: Path, name: str) -> Optional[Path]:
    try:
        folder = Path(os.path.realpath(folder))
        _make_private(folder)
        reason = open_to_others(folder)
    except OSError as problem:
        reason = str(problem)
    if not reason:
        return folder
    log.warning(_NOT_KEPT, _KEPT[name], reason)
    return None


def open_to_others(path: Path) -> str:
    """Why others can change what ``path``, a real path, holds; "" if they cannot.

    Raises OSError for a path that is not there.
    """
    if not hasattr(os, "getuid"):  # no POSIX: no such owners and modes
        return ""
    home = os.path.realpath(os.path.expanduser("~"))
    above = False
    for place in (path, *path.parents):
        state = os.lstat(place)
        if state.st_uid not in (os.getuid(), 0):
            return f"{place} belongs to user {state.st_uid}"
        sticky = above and stat.S_ISDIR(state.st_mode) and state.st_mode & stat.S_ISVTX
        if state.st_mode & stat.S_IWOTH and not sticky:
            return f"{place} can be written by all"
        if state.st_mode & stat.S_IWGRP and not sticky and not _is_private_group(place, state):
            return f"{place} can be written by group {state.st_gid}"
        if str(place) == home:
            break
        above = True
    return ""


def _make_private(folder: Path) -> None:
    """``mkdir -p`` with 0700 for every folder that is made, whatever the umask is."""
    for place in (*reversed(folder.parents), folder):
        if not place.exists():
            place.mkdir(mode=0o700, exist_ok=True)


def _is_private_group(place: Path, state: os.stat_result) -> bool:
    """Whether the group is the user's own, without other members, and stands for no others: where
    a folder has an access list, the bits of the group are those of all in the list."""
    import grp
    import pwd

    try:
        user = pwd.getpwuid(os.getuid())
        group = grp.getgrgid(state.st_gid)
    except KeyError:
        return False
    listed = hasattr(os, "listxattr") and "system.posix_acl_access" in os.listxattr(
        place, follow_symlinks=False
    )
    mine = user.pw_gid == group.gr_gid and user.pw_name == group.gr_name
    return mine and set(group.gr_mem) <= {user.pw_name} and not listed
