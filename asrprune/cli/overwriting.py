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
        help="replace what another run left in the folder --out",
    )


def keep_existing(path: str, force: bool) -> None:
    """Raise InputError when ``path`` is a folder that holds something, without ``force``. A single
    file is replaced, whole, as in every verb."""
    if os.path.isdir(path) and os.listdir(path) and not force:
        what = "a folder that is not empty"
        raise InputError(path, None, what, "a new --out, or --force to replace it")
