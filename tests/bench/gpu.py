"""Scoring over tries on a GPU, against the padded batch in bfloat16 and the limit of its products.

    python tests/bench/gpu.py --nbest pocketsphinx.100best.json.gz [--lm exp/lm] \\
        [--sizes d256,d512,d768,smollm2] [--repeats 3]

Of every size (random weights; SmolLM2-135M's shape is the last) or of ``--lm``. "tokens/s" are
those of all hypotheses, from text to scores, tokenising (here: looking up words) and tries
included; "x" is against the padded batch (hypotheses sorted by length, nothing shared, as many
places a batch as are fastest). "passes" is the time of the forward passes alone, one after the
other, "of limit" what part of it nothing but the products of every distinct token would take, at
the speed that the GPU multiplies 65,536 rows with here. "first" is the first run's time, with all
shapes new. "MB": most GPU memory.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from subjects import Subject, WordTokenizer, open_subject, read_lists
from trie_vs_padded import products

from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.engine import TorchEngine
from asrprune.lm.engines.pytorch.padded import PaddedScorer
from asrprune.lm.model.checkpoint import Checkpoint
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.scoring.forests import ScoringOptions
from asrprune.lm.scoring.sentences import TransformerScorer
from asrprune.lm.trie import BatchPlan, build_forest, cut

SIZES = {
    "d256": ModelShape.uniform(4000, 256, 4, 4),
    "d512": ModelShape.uniform(5000, 512, 6, 8),
    "d768": ModelShape.uniform(16000, 768, 12, 12),
    "smollm2": ModelShape.uniform(49152, 576, 30, 9, 1536, 256, architecture="llama", kv_heads=3),
}
GPU = EngineOptions(device="cuda")


def seconds(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Of the first run, and the median of the others."""
    times = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return times[0], statistics.median(times[1:])


def product_speed(width: int, dtype: torch.dtype) -> float:
    """FLOP/s of 65,536 rows in a feed-forward layer."""
    x = torch.randn(65536, width, device="cuda", dtype=dtype)
    weight = torch.randn(width, 4 * width, device="cuda", dtype=dtype)

    def run() -> None:
        for _ in range(10):
            x @ weight

    return 10 * 2 * 65536 * 4 * width**2 / seconds(run, 5)[1]


def measure(subject: Subject, texts: list[list[str]], repeats: int) -> None:
    tokenizer, positions = subject.tokenizer, subject.model.max_positions
    ids = [tokenizer.encode_batch(one) for one in texts]
    forest = build_forest(ids, tokenizer.begin, tokenizer.prompt)
    tokens = sum(len(hyp) + 1 for one in ids for hyp in one)
    plan = BatchPlan(forest, tokenizer.end)
    work = 2 * products(subject.model) * plan.wanted
    print(f"{tokens} tokens, {plan.wanted} unique")
    print(f"{'':20} {'first':>7} {'s':>7} {'tokens/s':>9} {'x':>6} {'passes':>7} {'of limit':>8}")
    base, exact = 0.0, np.zeros(0)
    for name, dtype, budget in (
        ("torch", torch.float32, None),
        ("padded bf16", torch.bfloat16, None),
        ("bf16, 2048 nodes", torch.bfloat16, 2048),
        ("torch-bf16", torch.bfloat16, None),
    ):
        model = copy.deepcopy(subject.model).to(dtype)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        engine = TorchEngine(model, dtype, GPU)
        if name.startswith("padded"):
            lm = PaddedScorer(model, tokenizer, GPU)
        else:
            lm = TransformerScorer(engine, tokenizer, positions, ScoringOptions(budget))
        lm.score_lists(texts[:1])
        first, whole = seconds(lambda lm=lm: lm.score_lists(texts), repeats)
        found = np.concatenate(lm.score_lists(texts))
        row = f"{name:20} {first:7.3f} {whole:7.3f} {tokens / whole:9.3g}"
        if name.startswith("padded"):
            base = whole
        elif base:
            budget = budget or engine.token_budget(int(forest.depth.max()) + 1)
            batches = [plan.batch(piece)[0] for piece in cut(forest, budget)]

            def run(engine=engine, batches=batches) -> None:
                for batch in batches:
                    engine.log_probs(batch)

            passes = seconds(run, repeats)[1]
            speed = product_speed(subject.model.width, dtype)
            row += f" {base / whole:6.2f} {passes:7.3f} {work / speed / passes:8.2f}"
        if not len(exact):
            exact = found
        apart = np.abs(found - exact)
        peak = torch.cuda.max_memory_allocated() / 1e6
        print(f"{row}   mean diff {apart.mean():.2g}, {peak:.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nbest", required=True)
    parser.add_argument("--lm")
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--limit", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    texts = [[hyp.text for hyp in nbest.hyps] for nbest in read_lists(args.nbest, args.limit)]
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    if args.lm:
        measure(open_subject(args.lm), texts, args.repeats)
        return
    for name in args.sizes.split(","):
        torch.manual_seed(0)
        model = TransformerLM(SIZES[name]).eval()
        print(f"\n{name}: {sum(map(torch.numel, model.parameters())) / 1e6:.0f} M parameters")
        subject = Subject(Checkpoint(model, Path(), ""), WordTokenizer(model.shape.vocab_size))
        measure(subject, texts, args.repeats)


if __name__ == "__main__":
    main()
