"""``asrprune rescore``: the best hypothesis of every utterance under given weights."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Any

from asrprune.cli.early_flags import (
    add_early_arguments,
    check_early_arguments,
    early_lm_names,
    rescore_on_the_way,
)

EXAMPLE = (
    "example: asrprune rescore --nbest exp/test/nbest.jsonl.gz --scores exp/test/lm.scores.gz"
    " --weights exp/weights.json --out exp/test/hyp"
)

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``asrprune rescore``."""
    parser.add_argument("--nbest", required=True, metavar="FILE", help="n-best lists")
    parser.add_argument(
        "--scores", nargs="*", default=[], metavar="FILE", help="scores files, as in tune"
    )
    parser.add_argument(
        "--weights", required=True, metavar="FILE", help="weights of tune, or of the first pass"
    )
    parser.add_argument("--out", default="-", metavar="FILE", help="Kaldi text; - is stdout")
    parser.add_argument("--write-nbest", metavar="FILE", help="the lists in their new order")
    parser.add_argument("--json", metavar="FILE", help="what was done, with the time it took")
    add_early_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Read, join, choose, write."""
    from asrprune.files import write_json
    from asrprune.firstpass.jsonl import read_nbest, write_nbest
    from asrprune.lm.provenance import provenance
    from asrprune.rescore.features import scored_lists
    from asrprune.rescore.rescoring import RescoringSummary, rescore
    from asrprune.rescore.scores import read_scores
    from asrprune.rescore.weights_file import read_any_weights, set_hashes, tuned_on
    from asrprune.score.kaldi_text import write_kaldi_text

    check_early_arguments(args)
    weights = read_any_weights(args.weights)
    scores = [read_scores(path) for path in args.scores]
    weights.check_lms(early_lm_names(args, [one.lm for one in scores]), args.weights)
    lists = list(read_nbest(args.nbest))
    summary = RescoringSummary()
    joined = scored_lists(lists, scores)
    early: dict[str, Any] = {}
    if args.early_lm:
        results = list(rescore_on_the_way(args, joined, weights, summary, early))
    else:
        results = list(rescore(joined, weights.weights, summary, args.nbest))
    write_kaldi_text(args.out, {one.nbest.utt: one.best for one in results})
    hashes = set_hashes(lists)
    on_this_set = tuned_on(weights, hashes)
    if on_this_set:
        log.warning("the weights were tuned on this set: its WER is not a test result")
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
            "provenance": origin,
        }
        write_json(args.json, figures)
    text = f"{summary.utterances} utterances, {summary.changed} with another first hypothesis"
    log.info("%s; search took %.3f s", text, summary.search_wall_s)
    sys.stdout.flush()
