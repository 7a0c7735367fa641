"""``asrprune rescore``: the best hypothesis of every utterance under given weights."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TYPE_CHECKING, Any

from asrprune.cli import lattice_flags
from asrprune.cli.early_flags import (
    EARLY_MODES,
    add_early_arguments,
    check_early_arguments,
    early_lm_names,
    rescore_on_the_way,
)
from asrprune.cli.format_flags import add_on_bad_argument
from asrprune.cli.lattice_flags import (
    add_lattice_arguments,
    check_lattice_arguments,
    rescore_lattice_files,
)
from asrprune.cli.modes import Mode
from asrprune.cli.text_flags import TEXT, add_text_arguments
from asrprune.cli.values import number, output_file, whole
from asrprune.core.units import UNITS, WORD
from asrprune.errors import InputError
from asrprune.rescore.decisions import DECISIONS

if TYPE_CHECKING:
    from asrprune.rescore.weights_file import WeightsFile

EXAMPLE = """\
examples:
  asrprune rescore --nbest exp/test/nbest.jsonl.gz --scores exp/test/lm.scores.gz \\
    --weights exp/weights.json --out exp/test/hyp
  asrprune rescore --lattice exp/test/lattices --format slf --lm exp/lm --mode beam \\
    --weights exp/weights.json --out exp/test/hyp
"""

MODES = (
    Mode(
        ("nbest", "lattice", "weights", "out", "write_nbest", "json", "decision", "on_bad", "unit")
    ),
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
    from asrprune.core.hypothesis import NBest
    from asrprune.files import write_json
    from asrprune.firstpass.formats.jsonl import write_nbest
    from asrprune.provenance import provenance
    from asrprune.rescore.weights_file import set_hashes
    from asrprune.wer.kaldi_text import write_kaldi_text

    weights.check_lms(args.lm or [], args.weights)
    texts, lists, figures = rescore_lattice_files(args, weights)
    write_kaldi_text(args.out, texts)
    utterances = set_hashes([NBest(utt, ()) for utt in texts])["utterances_hash"]
    on_this_set = _warn_tuned_here(weights, {"utterances_hash": utterances})
    origin = provenance(args.command_line)
    if args.write_nbest:
        write_nbest(args.write_nbest, lists, origin)
    if args.json:
        more = {"tuned_on_this_set": on_this_set, "utterances_hash": utterances}
        common = {"weights": args.weights, "decision": args.decision, "utterances": len(texts)}
        write_json(args.json, {**common, **more, **figures, "provenance": origin})
    tokens = ", ".join(f"{name}: {count} tokens" for name, count in figures["lm_tokens"].items())
    log.info("%d utterances in %.1f s; %s", len(texts), figures["wall_s"], tokens or "no LM")


def _warn_tuned_here(weights: WeightsFile, hashes: dict[str, str]) -> bool:
    from asrprune.rescore.weights_file import tuned_on

    found = tuned_on(weights, hashes)
    if found:
        log.warning("the weights were tuned on this set: its WER is not a test result")
    return found


def _rescore_lists(args: argparse.Namespace, weights: WeightsFile) -> None:
    from asrprune.files import write_json
    from asrprune.firstpass.formats.jsonl import read_nbest, write_nbest
    from asrprune.firstpass.on_bad import OnBad
    from asrprune.provenance import provenance
    from asrprune.rescore.nbest.rescore import RescoringSummary, rescore
    from asrprune.rescore.nbest.scored_list import scored_lists
    from asrprune.rescore.scores_file import read_scores
    from asrprune.rescore.weights_file import set_hashes
    from asrprune.wer.kaldi_text import write_kaldi_text

    scores = [read_scores(path) for path in args.scores]
    weights.check_lms(early_lm_names(args, [one.lm for one in scores]), args.weights)
    bad = OnBad(args.on_bad)
    lists = list(read_nbest(args.nbest, bad))
    bad.warn(args.nbest)
    summary = RescoringSummary()
    joined = scored_lists(lists, scores, weights.weights.unit)
    early: dict[str, Any] = {}
    if args.early_lm:
        results = list(rescore_on_the_way(args, joined, weights, summary, early))
    else:
        scale = None if args.decision == "map" else args.posterior_scale or weights.posterior_scale
        results = list(rescore(joined, weights.weights, summary, args.nbest, scale))
    write_kaldi_text(args.out, {one.nbest.utt: one.best for one in results})
    hashes = set_hashes(lists)
    on_this_set = _warn_tuned_here(weights, hashes)
    if summary.unscored:
        log.warning("%d utterances without any finite total keep rank 1", summary.unscored)
    origin = provenance(args.command_line)
    if args.write_nbest:
        write_nbest(args.write_nbest, (one.nbest for one in results), origin)
    if args.json:
        audio = [nbest.audio_s for nbest in lists]
        figures: dict[str, Any] = {
            "weights": args.weights,
            "tuned_on_this_set": on_this_set,
            **hashes,
            **vars(summary),
            **early,
            "audio_s": None if None in audio else sum(filter(None, audio)),
            "on_bad": sorted(bad.met),
            "provenance": origin,
        }
        write_json(args.json, figures)
    text = f"{summary.utterances} utterances, {summary.changed} with another first hypothesis"
    log.info("%s; search took %.3f s", text, summary.search_wall_s)
