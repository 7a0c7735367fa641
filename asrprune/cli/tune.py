"""``asrprune tune``: score weights with the fewest word errors on the dev set."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, Any

from asrprune.cli.modes import Mode
from asrprune.cli.values import output_file, seed, whole

if TYPE_CHECKING:
    from asrprune.core.hypothesis import NBest

EXAMPLE = (
    "example: asrprune tune --nbest exp/dev/nbest.jsonl.gz --scores exp/dev/lm.scores.gz"
    " --ref data/dev/text --out exp/weights.json"
)

MODES = (
    Mode(("nbest", "scores", "ref", "first_pass", "out", "starts", "negative_lm", "mbr")),
    Mode(("allow_test",)),
    Mode(("seed",), lambda args: args.starts > 0, "has no use with --starts 0"),
)

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``asrprune tune``."""
    from asrprune.rescore.tuning.tune import TuneOptions

    defaults = TuneOptions()
    parser.add_argument("--nbest", required=True, metavar="FILE", help="n-best lists of dev")
    parser.add_argument(
        "--scores",
        required=True,
        nargs="+",
        action="extend",
        metavar="FILE",
        help="scores files, one an LM",
    )
    parser.add_argument(
        "--ref", metavar="FILE", help="references, Kaldi text; by default those in the lists"
    )
    parser.add_argument(
        "--first-pass", metavar="JSON", help="the first pass's own weights: where to start"
    )
    parser.add_argument(
        "--out", required=True, type=output_file, metavar="FILE", help="weights (JSON)"
    )
    parser.add_argument("--seed", type=seed, default=defaults.seed, help="of the random starts")
    parser.add_argument("--starts", type=whole(0), default=defaults.starts, help="random starts")
    parser.add_argument(
        "--negative-lm",
        action=argparse.BooleanOptionalAction,
        default=defaults.negative_lm,
        help="LM weights may be negative: an LM is subtracted",
    )
    parser.add_argument(
        "--mbr",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="also tune the posterior scale of rescore --decision mbr and consensus",
    )
    parser.add_argument(
        "--allow-test",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="tune even on a set that is called test",
    )


def run(args: argparse.Namespace) -> None:
    """Read, join, tune, write."""
    from asrprune.core.weights import ScoreWeights
    from asrprune.firstpass.formats.jsonl import read_nbest
    from asrprune.provenance import provenance
    from asrprune.rescore.nbest.scored_list import scored_lists
    from asrprune.rescore.scores_file import read_scores
    from asrprune.rescore.tuning.posterior_scale import tune_posterior_scale
    from asrprune.rescore.tuning.tune import TuneOptions, tune
    from asrprune.rescore.weights_file import (
        WeightsFile,
        read_first_pass,
        reference_hash,
        refuse_test_set,
        set_hashes,
        write_weights,
    )

    if not args.allow_test:
        refuse_test_set(args.nbest, args.ref)
    options = TuneOptions(args.seed, args.starts, negative_lm=args.negative_lm)
    start = read_first_pass(args.first_pass) if args.first_pass else ScoreWeights()
    scores = [read_scores(path) for path in args.scores]
    lists = list(read_nbest(args.nbest))
    refs = _references(args, lists)
    scored = list(scored_lists(lists, scores))
    found = tune(scored, refs, start, options, args.nbest)
    scale = None
    dev: dict[str, Any] = {
        **set_hashes(lists),
        "ref_hash": reference_hash({nbest.utt: refs[nbest.utt] for nbest in lists}),
        "utterances": found.utterances,
        "words": found.words,
        "errors": found.errors,
        "wer_percent": found.wer_percent,
        "wer_percent_lm_weight_0": found.start_wer_percent,
    }
    if args.mbr:
        scale, errors = tune_posterior_scale(scored, refs, found.weights, args.nbest)
        dev["mbr_errors"] = errors
        log.info("posterior scale %g: %d errors, %d without", scale, errors, found.errors)
    lms = tuple(one.lm for one in scores)
    origin = provenance(args.command_line, seed=args.seed)
    write_weights(args.out, WeightsFile(found.weights, lms, dev, origin, scale))
    log.info("dev WER %.2f, %.2f without LM", found.wer_percent, found.start_wer_percent)
    log.info("%s", found.weights)


def _references(args: argparse.Namespace, lists: list[NBest]) -> dict[str, str]:
    from asrprune.errors import InputError
    from asrprune.wer.kaldi_text import read_kaldi_text

    if args.ref:
        return read_kaldi_text(args.ref)
    for nbest in lists:
        if nbest.ref is None:
            found = f"utterance {nbest.utt} without ref"
            raise InputError(args.nbest, None, found, "a reference for each, or --ref FILE")
    return {nbest.utt: nbest.ref or "" for nbest in lists}
