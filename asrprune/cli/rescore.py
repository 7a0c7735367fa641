"""``asrprune rescore``: the best hypothesis of every utterance under given weights."""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Optional

from asrprune.cli import lattice_flags
from asrprune.cli.early_flags import (
    EARLY_MODES,
    add_early_arguments,
    check_early_arguments,
    early_lm_names,
    rescore_on_the_way,
)
from asrprune.cli.engine_flags import lm_names
from asrprune.cli.format_flags import add_on_bad_argument
from asrprune.cli.lattice_flags import (
    add_lattice_arguments,
    check_lattice_arguments,
    rescore_lattice_files,
)
from asrprune.cli.modes import Mode
from asrprune.cli.sharding import add_shard_argument
from asrprune.cli.text_flags import TEXT, add_text_arguments, words_of_lists
from asrprune.cli.values import number, output_file, whole
from asrprune.core.units import RATES, UNITS, WORD
from asrprune.errors import InputError
from asrprune.rescore.decisions import DECISIONS

if TYPE_CHECKING:
    from asrprune.core.hypothesis import NBest
    from asrprune.rescore.weights_file import WeightsFile

EXAMPLE = """\
examples:
  asrprune rescore --nbest exp/test/nbest.jsonl.gz --scores exp/test/lm.scores.gz \\
    --weights exp/weights.json --out exp/test/hyp
  asrprune rescore --lattice exp/test/lattices --format slf --lm exp/lm --mode beam \\
    --weights exp/weights.json --out exp/test/hyp
"""

MODES = (
    Mode(("nbest", "lattice", "weights", "out", "write_nbest", "json", "decision", "on_bad")),
    Mode(("unit", "shard")),
    Mode(
        ("posterior_scale",),
        lambda args: args.decision != "map",
        "has no use for --decision map",
    ),
    Mode(
        TEXT,
        lambda args: bool(args.lm or args.early_lm),
        "has no use without an LM (--lm or --early-lm): --scores are made already",
    ),
    *EARLY_MODES,
    *lattice_flags.MODES,
)

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``asrprune rescore``."""
    parser.add_argument("--nbest", metavar="FILE", help="n-best lists")
    parser.add_argument(
        "--scores",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="scores files, as in tune",
    )
    parser.add_argument(
        "--weights", required=True, metavar="FILE", help="weights of tune, or of the first pass"
    )
    parser.add_argument(
        "--out", type=output_file, default="-", metavar="FILE", help="Kaldi text; - is stdout"
    )
    parser.add_argument(
        "--write-nbest", type=output_file, metavar="FILE", help="the lists in their new order"
    )
    parser.add_argument(
        "--list-size",
        type=whole(1),
        default=100,
        help="hypotheses of --write-nbest (with --lattice)",
    )
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="what was done, with the time it took"
    )
    parser.add_argument(
        "--decision",
        choices=list(DECISIONS),
        default="map",
        help="highest total, or fewest expected word errors over the list (mbr) or all paths of a"
        " lattice (consensus)",
    )
    parser.add_argument(
        "--unit",
        choices=list(UNITS),
        help="of the word bonus and of mbr (default: that of --weights, which it must be)",
    )
    parser.add_argument(
        "--posterior-scale",
        type=number(above=0.0),
        metavar="X",
        help="of mbr and consensus: posteriors are exp(X * total) (default: that of --weights)",
    )
    add_on_bad_argument(parser)
    add_shard_argument(parser)
    add_text_arguments(parser)
    add_early_arguments(parser)
    add_lattice_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Read, choose, write."""
    from asrprune.rescore.weights_file import read_any_weights

    check_lattice_arguments(args)
    check_early_arguments(args)
    weights = read_any_weights(args.weights)
    check_decision(args, weights)
    check_unit(args, weights)
    if args.lattice is None:
        _rescore_lists(args, weights)
    else:
        _rescore_lattices(args, weights)
    sys.stdout.flush()


def check_decision(args: argparse.Namespace, weights: WeightsFile) -> None:
    """Raise ValueError for a decision without a posterior scale, or that has no totals."""
    if args.decision == "map":
        return
    if args.posterior_scale is None and weights.posterior_scale is None:
        raise ValueError(f"--decision {args.decision} needs --posterior-scale or tune --mbr")
    if args.lattice is None and (args.decision == "consensus" or args.early_lm):
        raise ValueError(f"--decision {args.decision} needs --lattice, or --nbest with --scores")


def check_unit(args: argparse.Namespace, weights: WeightsFile) -> None:
    """Raise InputError for another unit than that of the weights, ValueError where none but words
    can be counted."""
    unit = weights.weights.unit
    if args.unit is not None and args.unit != unit:
        found = f"weights tuned by {unit}"
        raise InputError(args.weights, None, found, f"--unit {args.unit}, as asked for")
    if unit != WORD and (args.decision == "consensus" or args.write_lattice):
        flag = "--write-lattice" if args.write_lattice else "--decision consensus"
        raise ValueError(f"{flag} counts words; the weights are tuned by {unit}")


def _rescore_lattices(args: argparse.Namespace, weights: WeightsFile) -> None:
    from asrprune.core.spool import SortedLines
    from asrprune.files import write_json
    from asrprune.provenance import provenance
    from asrprune.rescore.weights_file import utterances_hash
    from asrprune.wer.kaldi_text import kaldi_text_writer

    weights.check_lms(lm_names(args.lm or [], args.size), args.weights)
    origin = provenance(args.command_line)
    utts = SortedLines()
    with _lists_writer(args, origin) as put_list, kaldi_text_writer(args.out) as write:

        def put_text(utt: str, text: str) -> None:
            utts.add(utt)
            write(utt, text)

        figures = rescore_lattice_files(args, weights, put_text, put_list)
    utterances = utterances_hash(utts)
    on_this_set = _warn_tuned_here(weights, {"utterances_hash": utterances})
    if args.json:
        more = {"tuned_on_this_set": on_this_set, "utterances_hash": utterances}
        common = {"weights": args.weights, "decision": args.decision, "utterances": len(utts)}
        write_json(args.json, {**common, **more, **figures, "provenance": origin})
    tokens = ", ".join(f"{name}: {count} tokens" for name, count in figures["lm_tokens"].items())
    log.info("%d utterances in %.1f s; %s", len(utts), figures["wall_s"], tokens or "no LM")


@contextmanager
def _lists_writer(
    args: argparse.Namespace, origin: Mapping[str, Any]
) -> Iterator[Optional[Callable[[NBest], None]]]:
    """The function that writes a list to --write-nbest; None without one.

    It is opened around the words' file, which so is there before it.
    """
    from asrprune.firstpass.formats.jsonl import nbest_writer

    if args.write_nbest is None:
        yield None
        return
    if args.write_nbest == "-" and args.out == "-":
        raise ValueError("--out and --write-nbest are both -; expected a file for one of them")
    with nbest_writer(args.write_nbest, origin) as put:
        yield put


def _warn_tuned_here(weights: WeightsFile, hashes: dict[str, str]) -> bool:
    from asrprune.rescore.weights_file import tuned_on

    found = tuned_on(weights, hashes)
    if found:
        rate = RATES[weights.weights.unit]
        log.warning("the weights were tuned on this set: its %s is not a test result", rate)
    return found


def _rescore_lists(args: argparse.Namespace, weights: WeightsFile) -> None:
    from asrprune.files import write_json
    from asrprune.firstpass.formats.jsonl import read_nbest
    from asrprune.firstpass.on_bad import OnBad
    from asrprune.provenance import provenance
    from asrprune.rescore.nbest.early import BLOCK_HYPOTHESES
    from asrprune.rescore.nbest.rescore import RescoringSummary, rescore
    from asrprune.rescore.nbest.scored_list import scored_lists
    from asrprune.rescore.scores_file import ScoresReader
    from asrprune.rescore.weights_file import SetHashes
    from asrprune.wer.kaldi_text import kaldi_text_writer

    scores = [ScoresReader(path) for path in args.scores]
    names = [one.lm for one in scores]
    weights.check_lms(early_lm_names(args, names), args.weights)
    bad = OnBad(args.on_bad)
    hashes = SetHashes()
    words: Counter[str] = Counter()

    def lists() -> Iterator[NBest]:
        for nbest in read_nbest(args.nbest, bad):
            hashes.add(nbest)
            if args.early_lm:
                words.update(words_of_lists([nbest]))
            yield nbest
        bad.warn(args.nbest)

    summary = RescoringSummary()
    joined = args.part.take(
        scored_lists(lists(), scores, weights.weights.unit),
        utt=lambda one: one.nbest.utt,
        size=lambda one: len(one.nbest.hyps),
        group=BLOCK_HYPOTHESES if args.early_lm else 1,
    )
    early: dict[str, Any] = {}
    if args.early_lm:
        results = rescore_on_the_way(args, joined, names, words, weights, summary, early)
    else:
        scale = None if args.decision == "map" else args.posterior_scale or weights.posterior_scale
        results = rescore(joined, weights.weights, summary, args.nbest, scale)
    origin = provenance(args.command_line)
    audio_s: Optional[float] = 0
    with _lists_writer(args, origin) as put_list, kaldi_text_writer(args.out) as put_text:
        for one in results:
            length = one.nbest.audio_s
            audio_s = None if audio_s is None or length is None else audio_s + length
            put_text(one.nbest.utt, one.best)
            if put_list is not None:
                put_list(one.nbest)
    on_this_set = _warn_tuned_here(weights, hashes.value())
    if summary.unscored:
        log.warning("%d utterances without any finite total keep rank 1", summary.unscored)
    if args.json:
        figures: dict[str, Any] = {
            "weights": args.weights,
            "tuned_on_this_set": on_this_set,
            **hashes.value(),
            **vars(summary),
            **early,
            "audio_s": audio_s,
            "on_bad": sorted(bad.met),
            "provenance": origin,
        }
        write_json(args.json, figures)
    text = f"{summary.utterances} utterances, {summary.changed} with another first hypothesis"
    log.info("%s; search took %.3f s", text, summary.search_wall_s)
