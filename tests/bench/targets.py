"""A dense LM and its pruned family, every engine: speed over the padded batch, and what WER does.

    python tests/bench/targets.py --nbest FILE --weights weights.json --lm exp/lm exp/family/* \\
        [--engines torch,onnx,onnx-int8,sparse] [--threads 1]

The first --lm is the dense one. "x" is the time of padding its hypotheses in fp32 torch over a
row's, in turns on the first --limit utterances (spread over the file); WER is on all lists, under
the --weights tuned for the dense LM on other data, with the paired 95 % interval of the difference
to the dense LM in torch. "tokens" are the distinct (prefix, token) pairs of all lists.
"""

from __future__ import annotations

import argparse
import os
import statistics

from subjects import open_subject, read_lists, speed_up, take_turns

from asrprune.rescore.agreement import compare_scores
from asrprune.rescore.bench import spread
from asrprune.rescore.weights_file import read_any_weights


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nbest", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--lm", nargs="+", required=True, help="checkpoint folders, dense first")
    parser.add_argument("--engines", default="torch,onnx,onnx-int8,sparse")
    parser.add_argument("--limit", type=int, default=20, help="utterances that are timed")
    parser.add_argument("--wer-limit", type=int, help="utterances that are scored for WER")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    args = parse()
    weights = read_any_weights(args.weights).weights
    lists = read_lists(args.nbest, args.wer_limit)
    texts = [[hyp.text for hyp in nbest.hyps] for nbest in lists]
    timed = [[hyp.text for hyp in nbest.hyps] for nbest in spread(lists, args.limit)]
    dense = open_subject(args.lm[0])
    padded = dense.padded(args.threads)
    reference = dense.scorer("torch", args.threads).score_lists(texts)
    print(f"{len(lists)} utterances, {len(timed)} of them timed, {args.threads} threads")
    clock = "CPU s" if args.threads == 1 else "wall s"
    head = f"{'MB':>7} {'tokens':>8} {clock:>7} {'x':>6} {'WER':>6} {'difference [95 %]':>22}"
    print(f"{'LM':24} {'engine':10} {head}  note")
    for path in args.lm:
        subject = open_subject(path)
        for engine in args.engines.split(","):
            lm = subject.scorer(engine, args.threads)
            wer = compare_scores(lists, reference, lm.score_lists(texts), weights).wer
            if wer is None:
                raise SystemExit(f"{args.nbest} has utterances without a reference")
            tokens = lm.stats.unique_tokens
            times = take_turns(
                {
                    "padded": lambda: padded.score_lists(timed),
                    "lm": lambda lm=lm: lm.score_lists(timed),
                },
                args.repeats,
                args.threads,
            )
            change = f"{wer.difference_percent:+.2f} [{wer.interval.low:+.2f}, "
            change += f"{wer.interval.high:+.2f}]"
            name = "/".join(os.path.normpath(path).split(os.sep)[-2:])
            print(
                f"{name[-24:]:24} {engine:10} {subject.checkpoint.size_bytes() / 1e6:7.2f} "
                f"{tokens:8} {statistics.median(times['lm']):7.2f} "
                f"{speed_up(times['padded'], times['lm']):6.2f} {wer.second.wer_percent:6.2f} "
                f"{change:>22}  {lm.engine.note}",
                flush=True,
            )


if __name__ == "__main__":
    main()
