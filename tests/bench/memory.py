"""Peak memory of scoring against the number of utterances and the size of n-best lists.

    python tests/bench/memory.py [--lm exp/lm] [--words 200] [--early]

Every row is a process of its own that scores lists made up on the fly (random words; a list's
hypotheses are one sentence with random substitutions, ``--changes`` of them), so that nothing but
scoring holds memory. Without ``--lm`` the model is random: 6 layers, d 512, vocabulary 5000. Peak
is the process's largest resident set, "over start" what it grew by after the model was there.
"per token" is computed places over distinct (prefix, token) pairs: 1 means that nothing is computed
twice; what is above it is paths to a cut trie's pieces and padding.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import numpy as np
from subjects import NumberTokenizer

from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.table import open_engine
from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.lm.scoring.forests import TOKEN_BUDGET, ScoringOptions
from asrprune.lm.scoring.sentences import TransformerScorer
from asrprune.rescore.bench.machine import peak_rss_bytes


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lm", help="checkpoint folder instead of a random model")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=5000)
    parser.add_argument("--words", type=int, default=30, help="tokens of a hypothesis")
    parser.add_argument("--changes", type=float, default=3.0, help="substitutions, on average")
    parser.add_argument("--token-budget", type=int, default=TOKEN_BUDGET)
    parser.add_argument("--engine", default="torch", help="one of `asrprune list engines`")
    parser.add_argument("--early", action="store_true", help="with early termination")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--utterances", default="10,100,1000", help="with 10 hypotheses each")
    parser.add_argument("--nbest", default="10,100,500,2000", help="of one utterance each")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_list(random: np.random.Generator, hyps: int, words: int, changes: float) -> list[str]:
    base = random.integers(3, 1000, words)
    made = []
    for _ in range(hyps):
        new = base.copy()
        where = random.integers(0, words, random.poisson(changes))
        new[where] = random.integers(3, 1000, len(where))
        made.append(" ".join(map(str, new)))
    return made


def score(args: argparse.Namespace) -> None:
    """One row of the table, as JSON: in a process of its own."""
    import torch

    from asrprune.lm.engines.pytorch.nodes import CachedModel
    from asrprune.lm.model.shapes import ModelShape
    from asrprune.lm.model.transformer import TransformerLM
    from asrprune.lm.scoring.early import EarlyScorer

    utterances, hyps = map(int, args.one.split("x"))
    if args.lm:
        model = load_checkpoint(args.lm).model
    else:
        heads = max(1, args.width // 64)
        shape = ModelShape.uniform(
            args.vocab, args.width, args.layers, heads, max_positions=args.words + 1
        )
        model = TransformerLM(shape)
    limit = model.shape.max_positions
    words = min(args.words, limit - 1)

    options = EngineOptions(args.threads, "cpu")
    lm = TransformerScorer(
        open_engine(args.engine, model, options),
        NumberTokenizer(),
        limit,
        options=ScoringOptions(args.token_budget),
    )
    early = EarlyScorer(
        CachedModel(model, torch.float32, options),
        NumberTokenizer(),
        limit,
        lm.score_lists,
    )
    random = np.random.default_rng(0)
    lm.score_lists([["3 4"]])
    before = peak_rss_bytes()
    start = time.perf_counter()
    for done in range(0, utterances, 50):
        count = min(50, utterances - done)
        lists = [make_list(random, hyps, words, args.changes) for _ in range(count)]
        if args.early:
            others = [-random.exponential(5.0, hyps) for _ in lists]
            early.score_lists(lists, others, 1.0)
        else:
            lm.score_lists(lists)
    peak = peak_rss_bytes()
    print(
        json.dumps(
            {
                "peak": peak / 2**20,
                "growth": (peak - before) / 2**20,
                "tokens": lm.stats.tokens,
                "unique": early.stats.nodes if args.early else lm.stats.unique_tokens,
                "computed": early.stats.computed_nodes if args.early else lm.stats.computed,
                "wall": time.perf_counter() - start,
            }
        )
    )


def main() -> None:
    args = parse()
    if args.one:
        score(args)
        return
    sizes = [f"{count}x10" for count in args.utterances.split(",") if count]
    sizes += [f"1x{count}" for count in args.nbest.split(",") if count]
    print(f"{args.words} tokens a hypothesis, budget {args.token_budget} tokens, {args.engine}")
    head = ("utts x nbest", "peak MiB", "over start", "unique", "computed", "per token", "wall s")
    print(f"{head[0]:>14}" + "".join(f"{name:>12}" for name in head[1:]))
    for size in sizes:
        command = [sys.executable, *sys.argv, "--one", size]
        row = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        per_token = row["computed"] / max(row["unique"], 1)
        print(
            f"{size:>14}{row['peak']:12.0f}{row['growth']:12.0f}{row['unique']:12}"
            f"{row['computed']:12}{per_token:12.3f}{row['wall']:12.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
