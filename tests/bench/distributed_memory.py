"""Peak memory of a training step of a large LM in each of several processes.

    torchrun --nproc-per-node 4 tests/bench/distributed_memory.py --parallel sharded

Makes an LM of GPT-2's shape (by default of 98 million parameters) and trains it for two steps on
drawn sentences. Prints a row: what weights, gradients and optimiser state take in each process by
arithmetic, and the largest peak of resident memory, without what the process took before.
"""

from __future__ import annotations

import argparse
import resource

import numpy as np
import torch

from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM, count_parameters
from asrprune.lm.training.batches import BatchStream
from asrprune.lm.training.distributed import process_group
from asrprune.lm.training.loop import Budget, TrainingLoop
from asrprune.lm.training.optimizers import OptimizerConfig
from asrprune.lm.training.sharding import shard
from asrprune.text.corpus import TokenStream


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parallel", choices=["replicated", "sharded"], default="replicated")
    parser.add_argument("--optimizer", choices=["adamw", "muon"], default="adamw")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocab-size", type=int, default=16_384)
    parser.add_argument("--tokens", type=int, default=512, help="of a step, over all processes")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with process_group("cpu") as group:
        torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])  # imports before the measurement
        before = peak_mb()
        heads = args.width // 64
        shape = ModelShape.uniform(
            args.vocab_size, args.width, args.layers, heads, 4 * args.width, 64
        )
        torch.manual_seed(0)
        model = TransformerLM(shape)
        model.checkpoint_activations = True
        if args.parallel == "sharded" and group.world > 1:
            shard(model, group)
        draw = np.random.default_rng(0)
        sentences = [draw.integers(3, args.vocab_size, 31).tolist() for _ in range(200)]
        stream = TokenStream.from_sentences(sentences)
        batches = BatchStream(stream, args.tokens, 1, 64, group.rank, group.world)
        optimizer = OptimizerConfig(args.optimizer)
        loop = TrainingLoop(model, batches, optimizer, Budget(2), group=group)
        made = peak_mb()
        while not loop.done:
            loop.step()
        share = group.world if args.parallel == "sharded" else 1
        arithmetic = loop.optimizer_bytes / share / 1e6
        peaks = torch.tensor([made - before, peak_mb() - before])
        if group.world > 1:
            torch.distributed.all_reduce(peaks, torch.distributed.ReduceOp.MAX)
        if group.is_first:
            millions = count_parameters(model) / 1e6
            print(
                f"| {millions:.1f} M | {args.optimizer} | {group.world}, {args.parallel} | "
                f"{arithmetic:,.0f} | {float(peaks[0]):,.0f} | {float(peaks[1]):,.0f} |"
            )


if __name__ == "__main__":
    main()
