"""What zeros save: sparse matrices against dense ones in torch, one by one and in a whole model.

    python tests/bench/sparse.py [--threads 1] [--sparsity 0.5,0.7,0.8,0.9] [--layers 0]

Dense and sparse take turns; a figure is the median over the turns of dense time / sparse time, so
above 1 sparse wins. Time is the process's CPU time with one thread, wall time with more. Weights
are random, zeros at random places, single ones (1x1) or in blocks of 4 outputs (4x1).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from subjects import NumberTokenizer
from torch.nn import functional

from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.engine import TorchEngine
from asrprune.lm.engines.sparse.matrices import SparseLinear, load_kernel, pack_matrix, sparsified
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.scoring.sentences import TransformerScorer


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", default="512x512,2048x512,512x2048,256x256,1024x256,256x1024")
    parser.add_argument("--sparsity", default="0.5,0.7,0.8,0.9")
    parser.add_argument("--tokens", type=int, default=1024, help="rows of a matrix product")
    parser.add_argument("--layers", type=int, default=6, help="of the whole model; 0: no model")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def masked(shape: torch.Size, sparsity: float, height: int) -> torch.Tensor:
    """True where a weight stays."""
    kept = torch.rand(-(-shape[0] // height), shape[1]) >= sparsity
    return kept.repeat_interleave(height, dim=0)[: shape[0]]


def ratio(
    args: argparse.Namespace, dense: Callable[[], object], other: Callable[[], object]
) -> str:
    """Dense time over the other's, the median of turns."""
    clock = time.process_time if args.threads == 1 else time.perf_counter
    ratios = []
    for turn in range(args.repeats + 1):
        start = clock()
        dense()
        middle = clock()
        other()
        if turn:  # the first is for warm-up
            ratios.append((middle - start) / (clock() - middle))
    return f"{statistics.median(ratios):8.2f}"


def matrices(args: argparse.Namespace, sparsities: list[float]) -> None:
    for size in args.sizes.split(","):
        outputs, inputs = map(int, size.split("x"))
        x, bias = torch.randn(args.tokens, inputs), torch.randn(outputs)
        for height in (1, 4):
            row = []
            for sparsity in sparsities:
                weight = torch.randn(outputs, inputs)
                weight *= masked(weight.shape, sparsity, height)
                made = SparseLinear(pack_matrix(weight, height), bias)
                row.append(
                    ratio(
                        args,
                        lambda w=weight, x=x, b=bias: [functional.linear(x, w, b) for _ in "abc"],
                        lambda made=made, x=x: [made(x) for _ in "abc"],
                    )
                )
            print(f"{size:>12} {height}x1  " + "".join(row), flush=True)


def models(args: argparse.Namespace, sparsities: list[float]) -> None:
    shape = ModelShape.uniform(args.vocab, args.width, args.layers, max(1, args.width // 64))
    texts = [torch.randint(3, args.vocab, (20,)).tolist() for _ in range(100)]
    lists = [[" ".join(map(str, ids)) for ids in texts]]
    options = EngineOptions(args.threads, "cpu")

    def scorer(model: TransformerLM) -> TransformerScorer:
        return TransformerScorer(
            TorchEngine(model, torch.float32, options),
            NumberTokenizer(),
            shape.max_positions,
        )

    for height in (1, 4):
        row = []
        for sparsity in sparsities:
            model = TransformerLM(shape)
            with torch.no_grad():
                for _, linear in model.linears():
                    linear.weight *= masked(linear.weight.shape, sparsity, height)
            dense, sparse = scorer(model), scorer(sparsified(model)[0])
            row.append(
                ratio(
                    args,
                    lambda lm=dense: lm.score_lists(lists),
                    lambda lm=sparse: lm.score_lists(lists),
                )
            )
        print(f"{'whole model':>12} {height}x1  " + "".join(row), flush=True)


def main() -> None:
    args = parse()
    kernel = load_kernel()
    if kernel is None:
        raise SystemExit("no sparse kernel on this machine: see the line above")
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    sparsities = [float(part) for part in args.sparsity.split(",")]
    print(f"vectors of {kernel.asrprune_sparse_lanes()} floats, {args.threads} threads")
    print(f"{'zeros':>12}      " + "".join(f"{100 * one:7.0f}%" for one in sparsities))
    matrices(args, sparsities)
    if args.layers:
        models(args, sparsities)


if __name__ == "__main__":
    main()
