"""The same weights on the same lists: every engine over tries against padded fp32 torch batches.

    python tests/bench/trie_vs_padded.py --nbest pocketsphinx.100best.json.gz \\
        [--lm exp/lm] [--engines torch,onnx,onnx-int8,int8] [--threads 1,2]

The padded batch (hypotheses sorted by length, none sharing anything) is what other tools run. "x"
is its time over an engine's, taken in turns; the differences of ln P are against it, and "best"
counts lists with another best hypothesis by LM score. Opening the model is not in the times. The
limit is what nothing but the products of every distinct token would give, at the speed that torch
multiplies 2,048 rows with here, for each number format.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from subjects import add_subject_arguments, open_subject, read_lists, speed_up, take_turns

from asrprune.lm.model.transformer import TransformerLM
from asrprune.rescore.bench.agreement import compare_scores


def products(model: TransformerLM) -> int:
    """Multiplications of a token with weights."""
    blocks = sum(linear.weights for _, linear in model.linears())
    return blocks + model.embedding.output_weight.numel()


def product_speed(width: int, dtype: torch.dtype, threads: int) -> float:
    """Operations a second of torch in the products of a feed-forward layer, the best of some."""
    torch.set_num_threads(threads)
    shapes = (2048, width), (width, 4 * width)
    x, weight = ((9 * torch.randn(shape)).to(dtype) for shape in shapes)  # integers get values too
    multiply = torch._int_mm if dtype == torch.int8 else torch.matmul
    clock = time.process_time if threads == 1 else time.perf_counter
    best = float("inf")
    for _ in range(20):
        start = clock()
        multiply(x, weight)
        best = min(best, clock() - start)
    return 2 * 2048 * 4 * width**2 / best


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_subject_arguments(parser)
    engines = "torch,onnx,onnx-int8,int8,openvino,openvino-bf16,openvino-int8,sparse"
    parser.add_argument("--engines", default=engines)
    parser.add_argument("--threads", default="1,2")
    args = parser.parse_args()
    lists = read_lists(args.nbest, args.limit)
    texts = [[hyp.text for hyp in nbest.hyps] for nbest in lists]
    subject = open_subject(args.lm, args.layers, args.width, args.vocab)
    print(f"{len(lists)} utterances, {sum(map(len, texts))} hypotheses")
    for threads in map(int, args.threads.split(",")):
        systems = {"padded": subject.padded(threads)}
        systems |= {name: subject.scorer(name, threads) for name in args.engines.split(",")}
        results: dict[str, list[np.ndarray]] = {}

        def run(name: str, systems=systems, results=results) -> None:
            results[name] = systems[name].score_lists(texts)

        runs = {name: lambda name=name: run(name) for name in systems}
        times = take_turns(runs, args.repeats, threads)
        head = f"{threads} threads, {'CPU' if threads == 1 else 'wall'} s"
        print(f"{head:>20} {'time':>8} {'x':>6} {'max diff':>9} {'mean':>9} {'best':>5}")
        for name, seconds in times.items():
            found = compare_scores(lists, results["padded"], results[name])
            print(
                f"{name:>20} {statistics.median(seconds):8.2f} "
                f"{speed_up(times['padded'], seconds):6.2f} {found.max_difference:9.2g} "
                f"{found.mean_difference:9.2g} {found.changed_best:5}",
                flush=True,
            )
        stats = systems[args.engines.split(",")[0]].stats
        print(f"{stats.tokens / stats.unique_tokens:.2f} tokens per distinct (prefix, token)")
        work = 2 * products(subject.model) * stats.unique_tokens / (args.repeats + 1)
        for dtype in (torch.float32, torch.bfloat16, torch.int8):
            speed = product_speed(subject.model.width, dtype, threads)
            limit = statistics.median(times["padded"]) / (work / speed)
            name = str(dtype).removeprefix("torch.")
            print(f"limit in {name}: {limit:.1f}, at {speed / 1e9:.0f} G operations/s")


if __name__ == "__main__":
    main()
