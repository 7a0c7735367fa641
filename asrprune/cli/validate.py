"""``asrprune validate``: read a whole file and say what it holds."""

from __future__ import annotations

import argparse
import json
import logging
from collections import Counter
from dataclasses import replace

import numpy as np

from asrprune.cli.format_flags import FormatFlags, add_on_bad_argument, format_options
from asrprune.cli.modes import Mode
from asrprune.cli.values import output_file
from asrprune.core.hypothesis import NBest
from asrprune.core.lattice.lattice import (
    Lattice,
    NoPathError,
    arc_totals,
    check_paths,
    take_arcs,
)
from asrprune.core.progress import tracked
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.files import write_text
from asrprune.firstpass.formats.table import FORMATS, read_items
from asrprune.firstpass.on_bad import NothingFoundError, OnBad, empty_lattice

EXAMPLE = """\
example:
  asrprune validate --format jsonl nbest.jsonl.gz
"""


_log = logging.getLogger(__name__)
FLAGS = FormatFlags()
MODES = (
    Mode(("format", "input", "out", "on_bad")),
    Mode(
        ("accept_unscored",),
        lambda args: (
            "acoustic" in FORMATS[args.format].holds and FORMATS[args.format].kind == "nbest"
        ),
        "has no use for format {format}: it has no lists with acoustic scores",
    ),
    *FLAGS.modes(lambda args: FORMATS[args.format].read_options, "has no use for format {format}"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``validate``."""
    parser.add_argument("--format", required=True, choices=list(FORMATS), help="format of IN")
    parser.add_argument("input", metavar="IN", help="file or folder to check")
    FLAGS.add_to(parser)
    add_on_bad_argument(parser)
    parser.add_argument(
        "--accept-unscored",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="lists of several hypotheses without acoustic scores, which only rank: tune and "
        "rescore take them under an acoustic weight of 0",
    )
    parser.add_argument(
        "--out", type=output_file, default="-", metavar="FILE", help="where the counts go (JSON)"
    )


def run(args: argparse.Namespace) -> None:
    """Read everything, print the counts; raises InputError at the first flaw."""
    counts: Counter[str] = Counter()
    seen: set[str] = set()
    bad = OnBad(args.on_bad)
    scored = "acoustic" in FORMATS[args.format].holds and not args.accept_unscored
    items = read_items(args.format, args.input, format_options(args), bad)
    for item in tracked(items, "read"):
        if item.utt in seen:
            raise InputError(args.input, None, f"utterance {item.utt} again", "each once")
        if isinstance(item, Lattice) and not _can_win(item, args.input):
            found = "no path with a finite total"
            instead = list(bad(NothingFoundError(args.input, None, empty_lattice(item.utt), found)))
            if not instead:
                continue
            item = instead[0]
        seen.add(item.utt)
        counts["utterances"] += 1
        if isinstance(item, Lattice):
            counts["states"] += item.n_states
            counts["arcs"] += item.n_arcs
            counts["without_lm_score"] += item.n_arcs if item.lm is None else 0
        else:
            if scored:
                _check_scored(item, args.input)
            counts["hypotheses"] += len(item.hyps)
            counts["empty_hypotheses"] += sum(not hyp.text for hyp in item.hyps)
            counts["without_acoustic_score"] += sum(hyp.acoustic is None for hyp in item.hyps)
            counts["without_lm_score"] += sum(hyp.lm is None for hyp in item.hyps)
            counts["with_reference"] += item.ref is not None
    bad.warn(args.input)
    if bad.met:
        counts["left_out" if args.on_bad == "skip" else "read_as_empty"] = len(bad.met)
    if not seen:
        raise InputError(args.input, None, "no utterance", "at least one")
    if (
        counts.get("hypotheses", 0) > 0
        and not counts["hypotheses"] - counts["without_acoustic_score"]
    ):
        text = "%s: no acoustic scores: the lists are in rank order, no more can be made of them"
        _log.warning(text, args.input)
    with write_text(args.out) as stream:
        json.dump({"format": args.format, **counts}, stream, indent=2)
        stream.write("\n")


def _can_win(lattice: Lattice, path: str) -> bool:
    """Whether a path has a finite total under the lattice's own weights, as far as it has scores.

    Raises InputError where they make totals that are no scores."""
    weights = lattice.weights or ScoreWeights()
    if lattice.lm is None:
        weights = replace(weights, first_lm=0.0)
    try:
        check_paths(take_arcs(lattice, np.isfinite(arc_totals(lattice, weights))))
    except NoPathError:
        return False
    except ValueError as problem:
        raise InputError(path, None, str(problem), "lattices with a best path") from None
    return True


def _check_scored(nbest: NBest, path: str) -> None:
    """Raise InputError for a list out of which no total can choose."""
    if len(nbest.hyps) < 2:
        return
    for rank, hyp in enumerate(nbest.hyps, start=1):
        if hyp.acoustic is None:
            found = f"utterance {nbest.utt}: no acoustic score of hypothesis {rank}"
            raise InputError(path, None, found, "one (or --accept-unscored)")
