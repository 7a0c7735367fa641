"""What happens to files: a flipped bit, and a process that dies while it writes them."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


def flips(path: Path, count: int = 50, tail_bytes: int = 24, seed: int = 0) -> Iterator[int]:
    """The file with one flipped bit, again and again: ``count`` drawn ones and all of its last
    bytes, where checksums stand. Yields the byte's place; at the end the file is as it was."""
    whole = path.read_bytes()
    draw = random.Random(seed)
    drawn = [(draw.randrange(len(whole)), draw.randrange(8)) for _ in range(count)]
    places = range(max(0, len(whole) - tail_bytes), len(whole))
    tail = [(at, bit) for at in places for bit in range(8)]
    for at, bit in [*drawn, *tail]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        yield at
    path.write_bytes(whole)


class Killed(BaseException):
    """Stands for a kill."""


CHANGES = ("fsync", "mkdir", "remove", "rename", "replace", "rmdir", "truncate", "unlink")
"""Calls of ``os`` that change what is on disk."""


@contextlib.contextmanager
def killed_at(change: int) -> Iterator[Callable[[], bool]]:
    """Let the first ``change`` changes of the disk happen and no later one: each raises Killed, in
    clean-up code too, until the block ends. Gives a function that says whether it came to that."""
    calls = 0

    def wrapped(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > change:
                raise Killed
            return real(*args, **kwargs)

        return call

    with contextlib.suppress(Killed), pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, wrapped(name))
        yield lambda: calls > change


def tree(folder: Path) -> dict[str, bytes]:
    """The files below ``folder`` by their names there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
