"""What is there already stays, unless --force says otherwise."""

from __future__ import annotations

import argparse
import os

from asrprune.errors import InputError


def add_force(parser: argparse.ArgumentParser) -> None:
    """Declare --force."""
    parser.add_argument(
        "--force",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="replace what another run left at --out",
    )


def keep_existing(path: str, force: bool) -> None:
    """Raise InputError when ``path`` is a file, or a folder that holds something, without
    ``force``. Standard output (-) and devices are no files."""
    there = os.path.isfile(path) or (os.path.isdir(path) and bool(os.listdir(path)))
    if there and not force:
        what = "a file that is there" if os.path.isfile(path) else "a folder that is not empty"
        raise InputError(path, None, what, "a new --out, or --force to replace it")
