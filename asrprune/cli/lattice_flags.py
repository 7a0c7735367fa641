"""Flags and work of ``rescore --lattice``."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, Optional

from asrprune.cli.engine_flags import add_size_argument, check_keeping_engine
from asrprune.cli.format_flags import FormatFlags, format_options, on_lattices
from asrprune.cli.modes import Mode
from asrprune.cli.text_flags import distinct_names, text_options, watched
from asrprune.cli.values import device, engine, number, or_none, output, threads, whole
from asrprune.core.progress import tracked
from asrprune.core.spool import SpooledDict
from asrprune.firstpass.formats.table import FORMATS, OPTIONS, read_items
from asrprune.rescore.lattices.modes import LATTICE_MODES, LatticeMode, rescore_lattices, together

if TYPE_CHECKING:
    from asrprune.core.hypothesis import NBest
    from asrprune.core.lattice.lattice import Lattice, NoPathError
    from asrprune.core.weights import ScoreWeights
    from asrprune.firstpass.on_bad import OnBad
    from asrprune.rescore.weights_file import WeightsFile

log = logging.getLogger(__name__)

LATTICE = Mode(
    ("format", "lm", "mode", "write_lattice"),
    lambda args: args.lattice is not None,
    "has a use only with --lattice",
)


def _reads_checkpoint(args: argparse.Namespace) -> bool:
    from asrprune.lm.open import is_ngram

    return not all(is_ngram(path) for path in args.lm or ())


def _format_options(args: argparse.Namespace) -> tuple[str, ...]:
    if args.format is None:  # which is the first thing to say
        return tuple(OPTIONS)
    writing = FORMATS[args.to].write_options if args.to else ()
    return (*FORMATS[args.format].read_options, *writing)


_SEARCH_FLAGS: dict[str, tuple[Callable[[str], Any], str]] = {
    "paths": (whole(1), "hypotheses that are scored"),
    "beam": (or_none(number(0.0)), "how far below the best, in units of the total"),
    "history": (or_none(whole(0)), "words after which hypotheses are merged, or none"),
    "state_hypotheses": (or_none(whole(1)), "most hypotheses in a lattice state, or none"),
    "frontier": (or_none(whole(1)), "most hypotheses expanded at once, or none"),
    "parallel": (whole(1), "utterances searched in step"),
    "limit": (whole(1), "most distinct hypotheses of a lattice"),
}
"""Field of some modes' options -> (what it may be, help)."""


def _fields(mode: str) -> dict[str, Any]:
    """Field of the mode's options -> its default."""
    return {one.name: one.default for one in dataclasses.fields(LATTICE_MODES[mode].options)}


def _searching(name: str) -> Mode:
    """The calls of one lattice mode, and the search options that it reads."""
    reads = [one for one in _fields(name) if one in _SEARCH_FLAGS]
    reads += ["first_pass"] if "ranking" in _fields(name) else []
    return Mode(
        tuple(reads), lambda args: args.mode == name, "has no use for this mode", inside=LATTICE
    )


FLAGS = FormatFlags("lattice", writes=True)
MODES = (
    LATTICE,
    Mode(
        ("to",),
        lambda args: args.write_lattice is not None,
        "has a use only with --write-lattice",
        inside=LATTICE,
    ),
    Mode(
        ("list_size",),
        lambda args: args.write_nbest is not None,
        "has a use only with --write-nbest",
        inside=LATTICE,
    ),
    Mode(
        ("engine", "threads", "device", "over_long", "size"),
        _reads_checkpoint,
        "has no use without a checkpoint in --lm",
        inside=LATTICE,
    ),
    *map(_searching, LATTICE_MODES),
    *FLAGS.modes(_format_options, "has no use here", inside=LATTICE),
)


def add_lattice_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    group = parser.add_argument_group("lattices (instead of --nbest and --scores)")
    group.add_argument("--lattice", metavar="PATH", help="lattices: a file or a folder")
    formats = [name for name, entry in FORMATS.items() if entry.kind == "lattice"]
    group.add_argument("--format", choices=formats, help="of --lattice, which needs it")
    group.add_argument(
        "--lm",
        nargs="+",
        action="extend",
        metavar="PATH",
        help="checkpoints or n-grams, one an LM weight",
    )
    add_size_argument(group)
    group.add_argument("--mode", choices=list(LATTICE_MODES), default="beam", help="how")
    group.add_argument(
        "--first-pass",
        metavar="JSON",
        help="the first pass's own weights: they choose what is scored (default: --weights, with"
        " the first pass's LM in the place of the others)",
    )
    writable = [name for name in formats if FORMATS[name].write is not None]
    group.add_argument("--write-lattice", type=output, metavar="OUT", help="the rescored lattices")
    group.add_argument("--to", choices=writable, help="format of --write-lattice")
    for name, (parse, text) in _SEARCH_FLAGS.items():
        used = [f"{mode}: {_fields(mode)[name]}" for mode in LATTICE_MODES if name in _fields(mode)]
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=parse,
            default=argparse.SUPPRESS,
            metavar="N",
            help=f"{text} ({', '.join(used)})",
        )
    group.add_argument(
        "--engine",
        type=engine,
        default="torch",
        help="as in lmscore; torch or torch-bf16 for the mode beam",
    )
    group.add_argument(
        "--over-long",
        choices=("error", "minus-inf", "window"),
        default="error",
        help="a path longer than the LM's positions: refuse, drop it (a shorter one wins), or "
        "score it with a sliding context (not in mode beam)",
    )
    group.add_argument("--threads", type=threads, help="CPU threads")
    group.add_argument("--device", type=device, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    FLAGS.add_to(parser)


def check_lattice_arguments(args: argparse.Namespace) -> None:
    """Raise ValueError for flags that do not go together."""
    if not on_lattices(args):
        return
    if (args.write_lattice is None) != (args.to is None):
        raise ValueError("--write-lattice and --to go together; found one of them")
    if LATTICE_MODES[args.mode].prefixes:
        check_keeping_engine(args.engine, "--mode beam")
        if args.over_long == "window":
            modes = ", ".join(name for name, one in LATTICE_MODES.items() if not one.prefixes)
            raise ValueError(f"--over-long window has no use for --mode {args.mode}; with {modes}")


def search_options(args: argparse.Namespace, ranking: Any) -> Any:
    """The options of ``--mode`` as the flags say. Raises ValueError for a value it cannot have."""
    fields = _fields(args.mode)
    stated = {name: getattr(args, name) for name in fields if name in args.given}
    if "ranking" in fields:
        stated["ranking"] = ranking
    try:
        return LATTICE_MODES[args.mode].options(**stated)
    except TypeError as problem:
        raise ValueError(f"bad options {stated}: {problem}") from None


def rescore_lattice_files(
    args: argparse.Namespace,
    weights: WeightsFile,
    put_text: Callable[[str, str], None],
    put_list: Optional[Callable[[NBest], None]],
) -> dict[str, Any]:
    """Figures of what was done; each utterance's id and words go to ``put_text``, its list for
    --write-nbest to ``put_list``, if there is one.

    Raises InputError naming the utterance where a lattice cannot be read or rescored.
    """
    from asrprune.core.hypothesis import Hypothesis, NBest
    from asrprune.core.lattice.lattice import NoPathError
    from asrprune.core.lattice.paths import best_path
    from asrprune.core.weights import ScoreWeights
    from asrprune.errors import InputError
    from asrprune.firstpass.on_bad import NothingFoundError, OnBad
    from asrprune.rescore.decisions import DECISIONS
    from asrprune.rescore.lattices.scored_lattice import weights_of_rescored
    from asrprune.rescore.weights_file import read_first_pass

    mode = LATTICE_MODES[args.mode]
    ranking = read_first_pass(args.first_pass) if args.first_pass else None
    options = search_options(args, ranking)
    scale = args.posterior_scale or weights.posterior_scale or 1.0
    start = time.perf_counter()
    lms = _open(args, mode)
    loaded = time.perf_counter()
    known: dict[str, Any] = {}
    bad = OnBad(args.on_bad)

    def lost(lattice: Lattice, problem: NoPathError) -> None:
        own = ranking or lattice.weights or ScoreWeights(first_lm=float(lattice.lm is not None))
        best = best_path(lattice, own)
        choice = NBest(lattice.utt, (best or Hypothesis(""),), lattice.audio_s)
        for instead in bad(NothingFoundError(args.lattice, None, choice, str(problem))):
            put_text(instead.utt, instead.hyps[0].text)
            if put_list is not None:
                put_list(instead)

    def rescored() -> Iterator[Lattice]:
        read = watched(_read(args, bad), lms, args.lattice, args.accept_unknown, known)
        lattices = args.part.take(read, group=together(options))
        for scored in rescore_lattices(
            lattices, mode, lms, weights.weights, options, args.lattice, lost=lost
        ):
            try:
                text = DECISIONS[args.decision](scored, scale)
            except NoPathError as problem:
                lost(scored.lattice, problem)
                continue
            except ValueError as problem:
                expected = "lattices with a path that can win"
                raise InputError(args.lattice, None, str(problem), expected) from None
            put_text(scored.lattice.utt, text)
            if put_list is not None:
                put_list(scored.nbest(args.list_size))
            yield scored.rescored()

    if args.write_lattice:
        _write(args, rescored(), weights_of_rescored(weights.weights))
    else:
        for _ in rescored():
            pass
    bad.warn(args.lattice)
    return {
        "mode": args.mode,
        "on_bad": sorted(bad.met),
        "options": {k: v for k, v in dataclasses.asdict(options).items() if k != "ranking"},
        "known": known,
        "lm_tokens": {name: lm.tokens for name, lm in zip(distinct_names(lms), lms)},
        "load_wall_s": loaded - start,
        "wall_s": time.perf_counter() - loaded,
    }


def _write(args: argparse.Namespace, lattices: Iterator[Lattice], stated: ScoreWeights) -> None:
    """Write them as --to, and log their weights ``stated`` where it cannot hold them.

    Raises InputError for anything else that it cannot hold, ValueError for an option that it does
    not take, and what ``lattices`` raises.
    """
    from asrprune.errors import InputError

    target = FORMATS[args.to]
    assert target.write is not None  # choices of --to
    own: list[ValueError] = []
    begun = False

    def items() -> Iterator[Lattice]:
        nonlocal begun
        begun = True
        try:
            yield from lattices
        except ValueError as problem:
            own.append(problem)
            raise

    try:
        target.write(args.write_lattice, items(), **_stated(args, target.write_options))
    except ValueError as problem:
        if problem in own or not begun:
            raise
        raise InputError(args.lattice, None, str(problem), f"what {target.name} holds") from None
    if "weights" not in target.holds:
        text = (
            "%s: %s cannot hold weights, use: acoustic scale %.4g, LM scale %.4g, word bonus %.4g"
        )
        scales = stated.acoustic, stated.first_lm, stated.word_bonus
        log.info(text, args.write_lattice, target.name, *scales)


def _read(args: argparse.Namespace, bad: OnBad) -> Iterator[Any]:
    from asrprune.errors import InputError

    seen: SpooledDict[int] = SpooledDict()
    items = read_items(
        args.format, args.lattice, _stated(args, FORMATS[args.format].read_options), bad
    )
    for count, item in enumerate(tracked(items, "rescored")):
        if seen.setdefault(item.utt, count) != count:
            found = f"utterance {item.utt} again"
            raise InputError(args.lattice, None, found, "each utterance once")
        yield item


def _stated(args: argparse.Namespace, wanted: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in format_options(args).items() if name in wanted}


def _open(args: argparse.Namespace, mode: LatticeMode) -> list[Any]:
    """The LMs, as the mode asks them."""
    from asrprune.lm.engines.engine import EngineOptions
    from asrprune.lm.engines.pytorch.prefixes import PrefixOptions
    from asrprune.lm.open import open_lm, open_prefix_lm
    from asrprune.lm.scoring.forests import ScoringOptions

    engine = EngineOptions(args.threads, args.device)
    text = text_options(args)
    if mode.prefixes:
        kept = PrefixOptions(over_long=args.over_long)
        return [
            open_prefix_lm(path, args.engine, engine, kept, text, args.size)
            for path in args.lm or ()
        ]
    options = ScoringOptions(over_long=args.over_long)
    return [
        open_lm(path, args.engine, engine, options, text, size=args.size).words()
        for path in args.lm or ()
    ]
