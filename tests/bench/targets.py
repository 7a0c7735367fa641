"""A dense LM and its pruned family, every engine: speed over the padded batch, and what WER does.

    python tests/bench/targets.py --nbest FILE --lm exp/lm exp/family/* \\
        [--engines torch,onnx,onnx-int8,int8,sparse] [--threads 1] [--no-wer]

The first --lm is the dense one. "x" is the time of padding its hypotheses in fp32 torch over a
row's, in turns on the first --limit utterances (spread over the file). WER is on all lists, in two
folds: the weights of each half are tuned on the other, for each LM anew on its scores in torch,
with the paired 95 % interval of the difference to the dense LM in torch. "tokens" are the distinct
(prefix, token) pairs of all lists.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from subjects import open_subject, read_lists, speed_up, take_turns

from asrprune.core.counts import ErrorCounts
from asrprune.core.hypothesis import NBest
from asrprune.core.weights import ScoreWeights
from asrprune.rescore.bench.bench import spread
from asrprune.rescore.nbest.scored_list import ScoredList, scored_lists, totals
from asrprune.rescore.scores_file import Scores, UtteranceScores
from asrprune.rescore.tuning.tune import TuneOptions, tune
from asrprune.wer.bootstrap import compare_paired
from asrprune.wer.wer import count_errors

LMScores = Sequence[NDArray[np.float64]]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nbest", required=True)
    parser.add_argument("--lm", nargs="+", required=True, help="checkpoint folders, dense first")
    engines = "torch,onnx,onnx-int8,int8,openvino,openvino-bf16,openvino-int8,sparse"
    parser.add_argument("--engines", default=engines)
    parser.add_argument("--limit", type=int, default=20, help="utterances that are timed")
    parser.add_argument("--wer-limit", type=int, help="utterances that are scored for WER")
    parser.add_argument("--no-wer", action="store_true", help="time only")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def scored(lists: Sequence[NBest], scores: LMScores) -> list[ScoredList]:
    named = {n.utt: UtteranceScores(n.utt, n.digest, v) for n, v in zip(lists, scores)}
    return list(scored_lists(lists, [Scores("lm", {}, named)]))


def two_folds(lists: Sequence[NBest], scores: LMScores) -> tuple[ScoreWeights, ScoreWeights]:
    """The weights for every other list from the first, and those for the rest."""
    refs = {nbest.utt: str(nbest.ref) for nbest in lists}
    both = scored(lists, scores)
    first, second = (
        tune(half, refs, ScoreWeights(), TuneOptions(objective="errors")).weights
        for half in (both[1::2], both[::2])
    )
    return first, second


def errors(
    lists: Sequence[NBest], scores: LMScores, folds: tuple[ScoreWeights, ScoreWeights]
) -> dict[str, ErrorCounts]:
    counts = {}
    for number, one in enumerate(scored(lists, scores)):
        nbest = lists[number]
        best = int(totals(one, folds[number % 2]).argmax())
        counts[nbest.utt] = count_errors(str(nbest.ref), nbest.hyps[best].text)
    return counts


def main() -> None:
    args = parse()
    lists = [nbest for nbest in read_lists(args.nbest, args.wer_limit) if nbest.hyps]
    if any(nbest.ref is None for nbest in lists):
        raise SystemExit(f"{args.nbest} has utterances without a reference")
    texts = [[hyp.text for hyp in nbest.hyps] for nbest in lists]
    timed = [[hyp.text for hyp in nbest.hyps] for nbest in spread(lists, args.limit)]
    padded = open_subject(args.lm[0]).padded(args.threads)
    print(f"{len(lists)} utterances, {len(timed)} of them timed, {args.threads} threads")
    clock = "CPU s" if args.threads == 1 else "wall s"
    head = f"{'MB':>7} {'tokens':>8} {clock:>7} {'x':>6} {'WER':>6} {'difference [95 %]':>22}"
    print(f"{'LM':24} {'engine':10} {head}  note")
    dense: dict[str, ErrorCounts] = {}
    for path in args.lm:
        subject = open_subject(path)
        if not args.no_wer:
            folds = two_folds(lists, subject.scorer("torch", args.threads).score_lists(texts))
        for engine in args.engines.split(","):
            lm = subject.scorer(engine, args.threads)
            wer = change = "-"
            if not args.no_wer:
                found = errors(lists, lm.score_lists(texts), folds)
                dense = dense or found
                pair = compare_paired(dense, found)
                wer = f"{pair.second.wer_percent:.2f}"
                change = f"{pair.difference_percent:+.2f} [{pair.interval.low:+.2f}, "
                change += f"{pair.interval.high:+.2f}]"
            tokens = lm.stats.unique_tokens
            times = take_turns(
                {
                    "padded": lambda: padded.score_lists(timed),
                    "lm": lambda lm=lm: lm.score_lists(timed),
                },
                args.repeats,
                args.threads,
            )
            name = "/".join(os.path.normpath(path).split(os.sep)[-2:])
            print(
                f"{name[-24:]:24} {engine:10} {subject.checkpoint.size_bytes() / 1e6:7.2f} "
                f"{tokens:8} {statistics.median(times['lm']):7.2f} "
                f"{speed_up(times['padded'], times['lm']):6.2f} {wer:>6} "
                f"{change:>22}  {lm.runtime.note}",
                flush=True,
            )


if __name__ == "__main__":
    main()
