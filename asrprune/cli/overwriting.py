"""What is there already stays, unless --force says otherwise."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator

from asrprune.errors import InputError
from asrprune.files import write_folder


def add_force(parser: argparse.ArgumentParser) -> None:
    """Declare --force."""
    parser.add_argument(
        "--force",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="replace what another run left in the folder --out",
    )


def keep_existing(path: str, force: bool) -> None:
    """Raise InputError when ``path`` is a folder that holds something, without ``force``; with it
    when the folder holds folders, which no run that may be replaced has written. A single file is
    replaced, whole, as in every verb."""
    if not os.path.isdir(path):
        return
    held = sorted(os.listdir(path))
    if held and not force:
        what = "a folder that is not empty"
        raise InputError(path, None, what, "a new --out, or --force to replace it")
    for name in held:
        if os.path.isdir(os.path.join(path, name)):
            what = f"a folder with the folder {name} in it"
            raise InputError(path, None, what, "files only, which --force may replace")


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Where to write what is to stand at ``path``: if that is a folder that holds something, a new
    one, which takes its place with all that it holds when the block ends without an error."""
    if os.path.isdir(path) and os.listdir(path):
        with write_folder(path) as folder:
            yield str(folder)
    else:
        yield path
