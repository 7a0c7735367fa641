"""A verb holds its outputs from its start on, so that two calls never write the same one."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator

from asrprune.cli.values import output, output_file, output_folder
from asrprune.files import is_stream, locked

OUTPUT_TYPES = (output, output_file, output_folder)
"""The types of options whose value is a place to write to."""


def is_first_process() -> bool:
    """Whether this is the only process of its run, or the first of those of torchrun."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def locked_outputs(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Iterator[None]:
    """Lock every output that the call names; of processes that train together, the first does.

    Raises InputError when another process holds one, ValueError when two options name the same.
    """
    given = {
        action.option_strings[0]: getattr(args, action.dest)
        for action in parser._actions
        if action.type in OUTPUT_TYPES and getattr(args, action.dest, None) is not None
    }
    files = {flag: path for flag, path in given.items() if not is_stream(path)}
    seen: dict[str, str] = {}
    for flag, path in files.items():
        first = seen.setdefault(os.path.realpath(path), flag)
        if first != flag:
            raise ValueError(f"{first} and {flag} are both {path}; expected two places")
    with contextlib.ExitStack() as held:
        if is_first_process():
            for place in sorted(seen):
                held.enter_context(locked(place))
        yield
