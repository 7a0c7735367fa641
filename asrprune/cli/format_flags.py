"""Flags for the options that formats declare (``OPTIONS``), shared by the verbs that read them."""

from __future__ import annotations

import argparse
from typing import Any

from asrprune.firstpass.formats.table import FORMATS, OPTIONS


def add_format_flags(parser: argparse.ArgumentParser, writes: bool) -> None:
    """Add one flag for every option of the table, saying which formats take it.

    Without ``writes`` only those that a reader takes.
    """
    for name, option in OPTIONS.items():
        users = [
            entry.name
            for entry in FORMATS.values()
            if name in entry.read_options or (writes and name in entry.write_options)
        ]
        if not users:
            continue
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=option.metavar,
            type=option.parse,
            default=argparse.SUPPRESS,
            help=f"{option.help} ({', '.join(users)})",
        )


def format_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options that the command line states, by name."""
    return {name: getattr(args, name) for name in OPTIONS if hasattr(args, name)}
