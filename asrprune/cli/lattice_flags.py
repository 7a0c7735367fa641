"""Flags and work of ``rescore --lattice``."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from asrprune.core.hypothesis import NBest
    from asrprune.core.lattice.lattice import Lattice
    from asrprune.rescore.lattices.modes import LatticeMode
    from asrprune.rescore.weights_file import WeightsFile

log = logging.getLogger(__name__)
LATTICE_ONLY = ("lm", "format", "mode", "write_lattice", "to", "first_pass")
_NO_LIMIT = "none"


def add_lattice_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    from asrprune.cli.format_flags import add_format_flags
    from asrprune.firstpass.formats.table import FORMATS
    from asrprune.rescore.lattices.modes import LATTICE_MODES

    group = parser.add_argument_group("lattices (instead of --nbest and --scores)")
    group.add_argument("--lattice", metavar="PATH", help="lattices: a file or a folder")
    formats = [name for name, entry in FORMATS.items() if entry.kind == "lattice"]
    group.add_argument("--format", choices=formats, help="of --lattice, which needs it")
    group.add_argument(
        "--lm", nargs="+", metavar="PATH", help="checkpoints or n-grams, one an LM weight"
    )
    group.add_argument("--mode", choices=list(LATTICE_MODES), help="default: beam")
    group.add_argument(
        "--first-pass",
        metavar="JSON",
        help="the first pass's own weights: they choose what is scored (default: --weights, with"
        " the first pass's LM in the place of the others)",
    )
    writable = [name for name in formats if FORMATS[name].write is not None]
    group.add_argument("--write-lattice", metavar="OUT", help="the rescored lattices")
    group.add_argument("--to", choices=writable, help="format of --write-lattice")
    for name, (kinds, text) in _mode_flags().items():
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=_number,
            default=argparse.SUPPRESS,
            metavar="N",
            help=f"{text} ({', '.join(kinds)})",
        )
    group.add_argument(
        "--engine", default="torch", help="as in lmscore; torch or torch-bf16 for the mode beam"
    )
    group.add_argument("--threads", type=int, help="CPU threads")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add_format_flags(parser, writes=True)


def _mode_flags() -> dict[str, tuple[list[str], str]]:
    """Field of a mode's options -> (modes that have it with their defaults, help)."""
    from asrprune.rescore.lattices.modes import LATTICE_MODES

    helps = {
        "paths": "hypotheses that are scored",
        "beam": "how far below the best, in units of the total",
        "history": "words after which hypotheses are merged, or none",
        "state_hypotheses": "most hypotheses in a lattice state, or none",
        "frontier": "most hypotheses expanded at once, or none",
        "parallel": "utterances searched in step",
        "limit": "most distinct hypotheses of a lattice",
    }
    flags: dict[str, tuple[list[str], str]] = {}
    for mode, entry in LATTICE_MODES.items():
        for one in dataclasses.fields(entry.options):
            if one.name in helps:
                flags.setdefault(one.name, ([], helps[one.name]))[0].append(
                    f"{mode}: {one.default}"
                )
    return flags


def _number(text: str) -> Optional[float]:
    """An integer, a number, or None for "none"."""
    if text == _NO_LIMIT:
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)


def check_lattice_arguments(args: argparse.Namespace) -> None:
    """Raise ValueError for flags that do not go together."""
    from asrprune.cli.format_flags import format_options

    if (args.nbest is None) == (args.lattice is None):
        raise ValueError("one of --nbest and --lattice; found both or none")
    if args.lattice is None:
        stated = [name for name in LATTICE_ONLY if getattr(args, name) is not None]
        stated += [name for name in (*_mode_flags(), *format_options(args)) if hasattr(args, name)]
        if stated:
            raise ValueError(f"--{stated[0].replace('_', '-')} has a use only with --lattice")
        return
    if args.format is None:
        raise ValueError("--lattice needs --format")
    if (args.write_lattice is None) != (args.to is None):
        raise ValueError("--write-lattice and --to go together; found one of them")
    if args.scores or args.early_lm:
        raise ValueError("--scores and --early-lm have a use only with --nbest")


def mode_options(args: argparse.Namespace, mode: LatticeMode, ranking: Any) -> Any:
    """The options of the mode as the flags say. Raises ValueError for a flag of another mode."""
    known = {one.name for one in dataclasses.fields(mode.options)}
    stated = {name: getattr(args, name) for name in _mode_flags() if hasattr(args, name)}
    for name in stated:
        if name not in known:
            raise ValueError(f"--{name.replace('_', '-')} has no use for this mode")
    if "ranking" in known:
        stated["ranking"] = ranking
    elif ranking is not None:
        raise ValueError("--first-pass has no use for this mode")
    try:
        return mode.options(**stated)
    except TypeError as problem:
        raise ValueError(f"bad options {stated}: {problem}") from None


def rescore_lattice_files(
    args: argparse.Namespace, weights: WeightsFile
) -> tuple[dict[str, str], list[NBest], dict[str, Any]]:
    """Words of every utterance, the lists for --write-nbest, and figures of what was done.

    Raises InputError naming the utterance where a lattice cannot be read or rescored.
    """
    from asrprune.errors import InputError
    from asrprune.firstpass.formats.table import FORMATS
    from asrprune.rescore.decisions import DECISIONS
    from asrprune.rescore.lattices.modes import LATTICE_MODES, rescore_lattices
    from asrprune.rescore.weights_file import read_first_pass

    mode = LATTICE_MODES[args.mode or "beam"]
    ranking = read_first_pass(args.first_pass) if args.first_pass else None
    options = mode_options(args, mode, ranking)
    scale = args.posterior_scale or weights.posterior_scale or 1.0
    start = time.perf_counter()
    lms = _open(args, mode)
    loaded = time.perf_counter()
    texts: dict[str, str] = {}
    lists: list[NBest] = []

    def rescored() -> Iterator[Lattice]:
        stream = rescore_lattices(_read(args), mode, lms, weights.weights, options, args.lattice)
        for scored in stream:
            try:
                texts[scored.lattice.utt] = DECISIONS[args.decision](scored, scale)
            except ValueError as problem:
                expected = "lattices with a path that can win"
                raise InputError(args.lattice, None, str(problem), expected) from None
            if args.write_nbest:
                lists.append(scored.nbest(args.list_size))
            yield scored.rescored()

    if args.write_lattice:
        write = FORMATS[args.to].write
        assert write is not None  # choices of --to
        write(args.write_lattice, rescored(), **_write_options(args))
    else:
        for _ in rescored():
            pass
    figures = {
        "mode": args.mode or "beam",
        "options": {k: v for k, v in dataclasses.asdict(options).items() if k != "ranking"},
        "lm_tokens": {lm.name: lm.tokens for lm in lms},
        "load_wall_s": loaded - start,
        "wall_s": time.perf_counter() - loaded,
    }
    return texts, lists, figures


def _read(args: argparse.Namespace) -> Iterator[Any]:
    from asrprune.cli.format_flags import format_options
    from asrprune.errors import InputError
    from asrprune.firstpass.formats.table import FORMATS, read_items

    reading = FORMATS[args.format].read_options
    stated = format_options(args)
    writing = FORMATS[args.to].write_options if args.to else ()
    for name in stated:
        if name not in (*reading, *writing):
            raise ValueError(f"--{name.replace('_', '-')} has no use here")
    seen = set()
    options = {name: value for name, value in stated.items() if name in reading}
    for item in read_items(args.format, args.lattice, options):
        if item.utt in seen:
            found = f"utterance {item.utt} again"
            raise InputError(args.lattice, None, found, "each utterance once")
        seen.add(item.utt)
        yield item


def _write_options(args: argparse.Namespace) -> dict[str, Any]:
    from asrprune.cli.format_flags import format_options
    from asrprune.firstpass.formats.table import FORMATS

    wanted = FORMATS[args.to].write_options
    return {name: value for name, value in format_options(args).items() if name in wanted}


def _open(args: argparse.Namespace, mode: LatticeMode) -> list[Any]:
    """The LMs, as the mode asks them."""
    from asrprune.lm.engines.engine import EngineOptions
    from asrprune.lm.engines.table import choose_engine
    from asrprune.lm.open import open_lm, open_prefix_lm
    from asrprune.lm.scoring.forests import ScoringOptions

    engine = EngineOptions(args.threads, args.device)
    if mode.prefixes:
        return [open_prefix_lm(path, args.engine, engine) for path in args.lm or ()]
    name, _ = choose_engine(args.engine, args.device)
    options = ScoringOptions(over_long="minus-inf")
    return [open_lm(path, name, engine, options).words() for path in args.lm or ()]
