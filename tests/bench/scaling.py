"""How the time of scoring grows, and what the tries save: one axis at a time, the others fixed.

    python tests/bench/scaling.py [--axes nbest,length,vocab,model,threads] [--engine torch]

Models are random; lists are made up: a sentence of random words and copies of it with some words
substituted, as in memory.py. Every row is measured in turns with the padded fp32 batch on the same
lists: "x" is its time over the engine's, "us/token" the engine's time over all tokens of all
hypotheses, "share" the distinct (prefix, token) pairs over them.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
from memory import make_list
from subjects import NumberTokenizer, Subject, open_subject, speed_up, take_turns

AXES: dict[str, list[dict[str, int]]] = {
    "nbest": [{"nbest": count} for count in (10, 50, 100, 500)],
    "length": [{"words": count} for count in (5, 10, 20, 40, 80)],
    "vocab": [{"vocab": count} for count in (1000, 5000, 20000, 50000, 200000)],
    "model": [
        {"layers": layers, "width": width}
        for layers, width in ((2, 128), (4, 256), (6, 512), (12, 512))
    ],
    "threads": [{"threads": 1}, {"threads": 2}],
}
FIXED = {"nbest": 100, "words": 20, "vocab": 5000, "layers": 4, "width": 256, "threads": 1}


def measure(args: argparse.Namespace, case: dict[str, int]) -> str:
    subject = open_subject(None, case["layers"], case["width"], case["vocab"])
    numbers = Subject(subject.checkpoint, NumberTokenizer())
    random = np.random.default_rng(0)
    count = max(1, args.hypotheses // case["nbest"])
    lists = [make_list(random, case["nbest"], case["words"], args.changes) for _ in range(count)]
    lm, padded = numbers.scorer(args.engine, case["threads"]), numbers.padded(case["threads"])
    times = take_turns(
        {"lm": lambda: lm.score_lists(lists), "padded": lambda: padded.score_lists(lists)},
        args.repeats,
        case["threads"],
    )
    turns = args.repeats + 1
    tokens = lm.stats.tokens / turns
    seconds = statistics.median(times["lm"])
    return (
        f"{tokens:10.0f} {lm.stats.unique_tokens / lm.stats.tokens:7.3f} "
        f"{1e6 * seconds / tokens:9.1f} {speed_up(times['padded'], times['lm']):7.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--axes", default=",".join(AXES))
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--hypotheses", type=int, default=500, help="in all, a row")
    parser.add_argument("--changes", type=float, default=3.0, help="words, on average")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(f"engine {args.engine}; fixed: " + ", ".join(f"{k} {v}" for k, v in FIXED.items()))
    print(f"{'':26}{'tokens':>10} {'share':>7} {'us/token':>9} {'x':>7}")
    for axis in args.axes.split(","):
        for change in AXES[axis]:
            name = " ".join(f"{key} {value}" for key, value in change.items())
            print(f"{name:26}{measure(args, {**FIXED, **change})}", flush=True)


if __name__ == "__main__":
    main()
