"""A trained LM with numbers below 1.2e-38 kept, as torch comes, and taken for 0, as asrprune does.

    python tests/bench/denormals.py --lm exp/mini/lm/dense --lists lists.jsonl.gz [--data DIR]

Both take turns, on one thread. Scoring: wall seconds of all lists, medians over the turns; the
ratio is the median of the turns' ratios (above 1: without denormals is faster), the difference the
largest of a sentence's ln P. Training, with ``--data`` (of asrprune tokenize): tokens a second of
steps of 4,096 tokens that leave the weights as they are. An LM that was just drawn has none.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Iterator
from unittest import mock

import numpy as np
import torch

import asrprune
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.lm.open import open_padded
from asrprune.lm.protocol import LanguageModel
from asrprune.lm.training.batches import BatchStream
from asrprune.lm.training.loop import Budget, TrainingLoop
from asrprune.lm.training.optimizers import OptimizerConfig
from asrprune.text.corpus import open_corpus

RATE = 1e-12


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Inside the block denormals are kept, whatever asks for others."""
    torch.set_flush_denormal(False)
    with mock.patch.object(torch, "set_flush_denormal", return_value=True):
        yield


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lm", required=True, help="checkpoint folder")
    parser.add_argument("--lists", required=True, help="n-best lists (jsonl)")
    parser.add_argument("--data", help="token streams to train on")
    parser.add_argument("--engines", default="padded,torch,torch-bf16")
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--utts", type=int, default=60, help="of the lists, the first")
    parser.add_argument("--turns", type=int, default=5)
    return parser.parse_args()


def print_scoring(args: argparse.Namespace) -> None:
    lists = [[hyp.text for hyp in one.hyps] for one in asrprune.read_nbest(args.lists)]
    print("engine       kept, s  0, s  ratio  difference")
    for engine in args.engines.split(","):
        if engine == "padded":
            lm: LanguageModel = open_padded(args.lm, EngineOptions(threads=1, device="cpu"))
        else:
            lm = asrprune.open_lm(args.lm, engine, threads=1)
        seconds: list[list[float]] = []
        scores = []
        for _ in range(args.turns + 1):
            turn = []
            for mode in (kept, contextlib.nullcontext):
                with mode():
                    start = time.perf_counter()
                    scores.append(np.concatenate(lm.score_lists(lists[: args.utts])))
                    turn.append(time.perf_counter() - start)
            seconds.append(turn)
        first, second = zip(*seconds[1:])
        ratio = statistics.median(a / b for a, b in zip(first, second))
        apart = float(np.abs(scores[0] - scores[1]).max())
        times = f"{statistics.median(first):7.3f} {statistics.median(second):7.3f}"
        print(f"{engine:11} {times} {ratio:6.2f}  {apart:.1e}", flush=True)


def print_training(args: argparse.Namespace) -> None:
    print("step in   kept, tokens/s  0, tokens/s  ratio")
    for precision in args.precisions.split(","):
        model = load_checkpoint(args.lm).model
        batches = BatchStream(open_corpus(args.data).stream("train"), 4096, 1, model.max_positions)
        optimizer = OptimizerConfig("muon", lr=RATE, muon_lr=RATE)
        budget = Budget(max_steps=1 << 30)
        loop = TrainingLoop(model, batches, optimizer, budget, precision=precision)
        loop.step()
        speeds: list[list[float]] = [[], []]
        for _ in range(4 * args.turns):
            for mode, found in zip((kept, contextlib.nullcontext), speeds):
                with mode():
                    start = time.perf_counter()
                    tokens = loop.step().tokens
                    found.append(tokens / (time.perf_counter() - start))
        ratio = statistics.median(b / a for a, b in zip(*speeds))
        first, second = map(statistics.median, speeds)
        print(f"{precision:9} {first:14,.0f} {second:12,.0f} {ratio:6.2f}", flush=True)


def main() -> None:
    args = parse()
    torch.set_num_threads(1)
    print_scoring(args)
    if args.data is not None:
        print_training(args)


if __name__ == "__main__":
    main()
