"""``--shard I/N``: a verb does a part of its utterances, and leaves a record for ``merge``."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from asrprune import __version__
from asrprune.cli.outputs import OUTPUT_TYPES
from asrprune.cli.overwriting import keep_existing
from asrprune.cli.values import shard
from asrprune.core.resume import AnotherRunError, difference, read_state
from asrprune.core.shards import Part, Shard, ShardRecord, read_shard
from asrprune.files import content_hash, is_stream
from asrprune.files.locks import remove

HOW_IT_RUNS = {"help", "shard", "force", "nj", "threads", "early_threads", "device"}
"""Options that change how a verb runs, not what it makes."""

log = logging.getLogger(__name__)


def add_shard_argument(parser: argparse.ArgumentParser) -> None:
    """Declare --shard. ``args.part`` is what the call takes."""
    parser.add_argument(
        "--shard",
        type=shard,
        metavar="I/N",
        help="only the I-th of N parts of the utterances, chosen by their ids, as in JOB/8; "
        "`asrprune merge` puts the outputs together",
    )


def run_part(
    run: Callable[[argparse.Namespace], None],
    parser: argparse.ArgumentParser,
    args: argparse.Namespace,
) -> None:
    """Run a verb, or one shard of it unless that is complete already.

    Raises AnotherRunError where ``--out`` is of another shard, ValueError where it is no file.
    """
    part: Optional[Shard] = getattr(args, "shard", None)
    args.part = Part(part)
    if part is None:
        run(args)
        return
    _check_outputs(parser, args)
    record = ShardRecord(args.out, part, _identity(parser, args), tuple(args.command_line), {})
    there = _record_at(record)
    if there is not None and there.shard != part:
        raise AnotherRunError(args.out, f"shard is {there.shard} there, {part} now")
    other = "" if there is None else difference(there.identity, record.identity)
    if there is not None and not other and _is_complete(there):
        log.info("%s: shard %s is finished already, nothing to do", args.out, part)
        return
    if "force" in args:
        if there is None or other:  # else the folder is of this shard, which was killed at its end
            keep_existing(args.out, args.force)
        args.force = True
    if other:
        log.warning("%s belongs to another run: %s; starting anew", record.path, other)
    held = os.path.lexists(args.out)
    record.write()
    try:
        run(args)
        outputs = {flag: (path, content_hash(path)) for flag, path in _outputs(parser, args)}
        size = {"total": args.part.total, "utterances": len(args.part.taken)}
        replace(record, outputs=outputs, **size).write(args.part.taken)
    except Exception:
        if there is None and (held or not os.path.lexists(args.out)):
            remove(Path(record.path))  # the output, if any, is not of this run
        raise


def _check_outputs(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Raise ValueError for outputs that cannot be those of a shard."""
    if is_stream(args.out):
        raise ValueError(f"--shard needs a file or folder for --out; found {args.out}")
    if "like" in args:
        raise ValueError("--shard and --like do not go together: --like names all utterances")
    for _, path in _outputs(parser, args):
        if path.endswith(".pt"):
            raise ValueError(f"{path} is one FsaVec, which cannot be empty, as a shard may be")


def _record_at(record: ShardRecord) -> Optional[ShardRecord]:
    """The record that is there already; None without one and, with a warning, for a damaged one."""
    if not os.path.isfile(record.path):
        return None
    return read_state(record.path, lambda: read_shard(record.out))


def _is_complete(record: ShardRecord) -> bool:
    return bool(record.outputs) and all(
        content_hash(path) == digest for path, digest in record.outputs.values()
    )


def _outputs(
    parser: argparse.ArgumentParser, args: argparse.Namespace
) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        path = getattr(args, action.dest, None)
        if action.type in OUTPUT_TYPES and path is not None and not is_stream(path):
            yield action.option_strings[0], path


def _identity(parser: argparse.ArgumentParser, args: argparse.Namespace) -> dict[str, Any]:
    """Everything that decides the result: the options, and the content of files among them."""
    from asrprune.firstpass.formats.table import OPTIONS

    found: dict[str, Any] = {"verb": args.command_line[1], "asrprune": __version__}
    for action in parser._actions:
        if action.type in OUTPUT_TYPES or action.dest in HOW_IT_RUNS or action.dest not in args:
            continue
        value = getattr(args, action.dest)
        names_files = action.choices is None and (action.type is None or action.dest in OPTIONS)
        flag = action.option_strings[0] if action.option_strings else str(action.metavar)
        found[flag] = _plain(value, names_files)
    return found


def _plain(value: Any, names_files: bool) -> Any:
    """As JSON has it, with a hash beside the name of a file or folder."""
    if isinstance(value, (list, tuple)):
        return [_plain(one, names_files) for one in value]
    if isinstance(value, str) and names_files and os.path.exists(value):
        return {"path": value, "sha256": content_hash(value)[:16]}
    return value if isinstance(value, (str, int, float, type(None))) else str(value)
