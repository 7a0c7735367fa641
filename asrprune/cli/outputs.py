"""A verb holds its outputs from its start on, so that two calls never write the same one; and none
takes the place of what the call reads."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator

from asrprune.cli.values import named_path, named_paths, output, output_file, output_folder
from asrprune.files import is_stream, locked

OUTPUT_TYPES = (output, output_file, output_folder)
"""The types of options whose value is a place to write to."""
NO_PATHS = {
    *("axis", "baseline", "begin", "compute_type", "dtype", "end", "fact", "filter", "form"),
    *("front", "hyp_filter", "language", "optional_words", "remove_words", "set", "title"),
}
"""Options of any text that names nothing to read."""
FORMAT_FILES = {"like", "manifest", "utts", "words"}
"""Options of formats that name what is read."""


def is_first_process() -> bool:
    """Whether this is the only process of its run, or the first of those of torchrun."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def locked_outputs(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Iterator[None]:
    """Lock every output that the call names; of processes that train together, the first does.

    Raises InputError when another process holds one, ValueError for one that is also another
    option's output, or an input that it would replace.
    """
    given = [
        (action, getattr(args, action.dest))
        for action in parser._actions
        if action.type in OUTPUT_TYPES and getattr(args, action.dest, None) is not None
    ]
    read = {os.path.realpath(path): flag for flag, path in _inputs(parser, args)}
    seen: dict[str, str] = {}
    for action, path in given:
        if is_stream(path):
            continue
        flag, place = action.option_strings[0], os.path.realpath(path)
        first = seen.setdefault(place, flag)
        if first == flag and not _adds(action, args, place):
            first = read.get(place, flag)
        if first != flag:
            raise ValueError(f"{first} and {flag} are both {path}; expected two places")
    with contextlib.ExitStack() as held:
        if is_first_process():
            for place in sorted(seen):
                held.enter_context(locked(place))
        yield


def _inputs(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Option, or name of an argument, and path of all that the call may read."""
    for action in parser._actions:
        text = action.type is None and action.choices is None and action.nargs != 0
        text = text and action.dest not in NO_PATHS
        named = action.type in (named_path, named_paths)
        value = getattr(args, action.dest, None)
        if value is None or not (text or named or action.dest in FORMAT_FILES):
            continue
        flag = action.option_strings[0] if action.option_strings else str(action.metavar)
        for one in value if isinstance(value, list) else [value]:
            paths = one[1] if named else one
            for path in [paths] if isinstance(paths, str) else paths:
                yield flag, path


def _adds(action: argparse.Action, args: argparse.Namespace, place: str) -> bool:
    """Whether a folder that is there stays, and what the verb writes is put into it."""
    return action.type is output_folder and "force" not in args and os.path.isdir(place)
