"""A step of training, with logits of all tokens at one time and with those of a few.

    python tests/bench/training_step.py [--shapes 4x256x4000,6x512x5000] [--precisions fp32,bf16]

Both take turns on the same LM and batch: loss, gradients, clipping, Muon; by the next token, and
with half of the loss from a teacher of the same shape. Wall seconds are medians over the turns, the
ratio is the median of the turns' ratios (above 1: few are faster). ``difference``: of the
gradients, the norm of the difference / the norm.

Then what follows the gradients, in turns too: AdamW by operations and in one pass over the weights,
masks of half of the matrices' weights filled in and multiplied; the largest difference of a weight.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from asrprune.lm.model.matrices import DenseLinear
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED, Batch, BatchStream
from asrprune.lm.training.loop import Budget, TrainingLoop
from asrprune.lm.training.loss import LossFunction, next_token_loss
from asrprune.lm.training.optimizers import OptimizerConfig, make_optimizer
from asrprune.prune.masks import apply_masks
from asrprune.prune.run.distillation import distilling
from asrprune.text.corpus import TokenStream

TwoLms = tuple[TransformerLM, TransformerLM]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--shapes", default="4x256x4000,6x512x5000,2x576x49152", help="layers x width x vocabulary"
    )
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--tokens", type=int, default=4096, help="of a step, padding counted")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--tables", default="losses,updates", help="which of the two")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def all_logits(model: TransformerLM, batch: Batch) -> Tensor:
    """The loss of next_token_loss with the logits of every token, padding too, in one tensor."""
    logits = model.logits(model(batch.tokens)[0]).float()
    return functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="sum")


def guided(teacher: TransformerLM) -> LossFunction:
    """That of ``distilling`` in the same way."""

    def loss(model: TransformerLM, batch: Batch) -> Tensor:
        scored = batch.targets != IGNORED
        with torch.no_grad():
            guide = teacher.logits(teacher(batch.tokens)[0])[scored].float()
        logits = model.logits(model(batch.tokens)[0])[scored].float()
        by_data = functional.cross_entropy(logits, batch.targets[scored], reduction="sum")
        both = logits.log_softmax(-1), guide.log_softmax(-1)
        return 0.5 * (by_data + functional.kl_div(*both, reduction="sum", log_target=True))

    return loss


def losses(shape: ModelShape) -> dict[str, tuple[LossFunction, LossFunction]]:
    """What -> its loss with all logits at one time, and that with a few."""
    torch.manual_seed(1)
    teacher = TransformerLM(shape).eval()
    return {
        "next token": (all_logits, next_token_loss),
        "distilled": (guided(teacher), distilling(teacher, 1.0, 0.5)),
    }


def made(shape: ModelShape, loss: LossFunction, tokens: int, precision: str) -> TrainingLoop:
    """A loop over random sentences of 5 to 60 tokens, the same for every loss."""
    draw = np.random.default_rng(0)
    sentences = [
        draw.integers(3, shape.vocab_size, draw.integers(5, 61)).tolist() for _ in range(2000)
    ]
    stream = TokenStream.from_sentences(sentences)
    torch.manual_seed(0)
    batches = BatchStream(stream, tokens, 1, shape.max_positions)
    config = OptimizerConfig("muon")
    budget = Budget(max_steps=1 << 20)
    return TrainingLoop(TransformerLM(shape), batches, config, budget, 1, precision, 1, loss)


def difference(some: TrainingLoop, others: TrainingLoop) -> float:
    """Of the gradients that both loops have."""
    both = zip(some.model.parameters(), others.model.parameters())
    pairs = [(a.grad.double(), b.grad.double()) for a, b in both if a.grad is not None]
    apart = sum(float((a - b).square().sum()) for a, b in pairs)
    return float((apart / sum(float(a.square().sum()) for a, _ in pairs)) ** 0.5)


def updates(shape: ModelShape) -> dict[str, tuple[Callable[[], None], Callable[[], None], TwoLms]]:
    """What -> how torch does it by itself, how we do it, on two LMs that are alike."""
    torch.manual_seed(0)
    ours, plain, masked = (TransformerLM(shape) for _ in range(3))
    for model in (plain, masked):
        model.load_state_dict(ours.state_dict())
    for one, other in zip(ours.parameters(), plain.parameters()):
        one.grad = other.grad = torch.randn_like(one)
    config = OptimizerConfig("adamw")
    optimizer = make_optimizer(ours, config)
    betas = config.beta1, config.beta2
    groups = [{**group, "fused": False} for group in optimizer.parts[0].param_groups]
    own = {id(one): other for one, other in zip(ours.parameters(), plain.parameters())}
    for group in groups:
        group["params"] = [own[id(one)] for one in group["params"]]
    looped = torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=1e-8)
    masks = {
        place: torch.rand_like(linear.weight) > 0.5
        for place, linear in masked.linears()
        if isinstance(linear, DenseLinear)
    }
    filled = TransformerLM(shape)
    filled.load_state_dict(masked.state_dict())

    def fill() -> None:
        with torch.no_grad():
            for place, linear in filled.linears():
                linear.weight.masked_fill_(~masks[place], 0.0)

    return {
        "AdamW": (lambda: looped.step(), optimizer.step, (plain, ours)),
        "masks": (fill, lambda: apply_masks(masked, masks), (filled, masked)),
    }


def print_updates(shapes: Sequence[str], turns: int) -> None:
    """The second table."""
    print("| layers x width x vocabulary | what | torch, s | ours, s | ratio | difference |")
    print("|---|---|---:|---:|---:|---:|")
    for name in shapes:
        for what, (*both, lms) in updates(shape_of(name)).items():
            seconds = []
            for _ in range(turns):
                taken = []
                for update in both:
                    start = time.perf_counter()
                    update()
                    taken.append(time.perf_counter() - start)
                seconds.append(taken)
            theirs, ours = (statistics.median(column) for column in zip(*seconds))
            ratio = statistics.median(a / b for a, b in seconds)
            pairs = zip(*(lm.parameters() for lm in lms))
            apart = max(float((a - b).abs().max()) for a, b in pairs if a.numel())
            print(
                f"| {name} | {what} | {theirs:.3f} | {ours:.3f} | {ratio:.2f} | {apart:.1e} |",
                flush=True,
            )


def shape_of(name: str) -> ModelShape:
    layers, width, vocab = map(int, name.split("x"))
    return ModelShape.uniform(vocab, width, layers, width // 64, max_positions=64)


def print_losses(args: argparse.Namespace) -> None:
    """The first table."""
    columns = "layers x width x vocabulary", "loss", "precision", "all, s", "few, s", "ratio"
    print("|", " | ".join(columns), "| difference |")
    print("|---|---|---|---:|---:|---:|---:|")
    for name in args.shapes.split(","):
        shape = shape_of(name)
        formats = args.precisions.split(",")
        for (what, both), precision in itertools.product(losses(shape).items(), formats):
            loops = [made(shape, loss, args.tokens, precision) for loss in both]
            seconds: list[tuple[float, float]] = []
            apart = 0.0
            for turn in range(args.turns + 1):
                taken = []
                for loop in loops:
                    start = time.perf_counter()
                    loop.step()
                    taken.append(time.perf_counter() - start)
                if turn:  # the first is for warm-up
                    seconds.append((taken[0], taken[1]))
                else:
                    apart = difference(*loops)
            whole, few = (statistics.median(column) for column in zip(*seconds))
            ratio = statistics.median(a / b for a, b in seconds)
            print(
                f"| {name} | {what} | {precision} | {whole:.3f} | {few:.3f} | {ratio:.2f} "
                f"| {apart:.1e} |",
                flush=True,
            )


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    print(f"{args.threads} threads, {args.tokens} tokens a step, {args.turns} turns")
    tables = args.tables.split(",")
    if "losses" in tables:
        print_losses(args)
    if "updates" in tables:
        with torch.no_grad():
            print_updates(args.shapes.split(","), args.turns)


if __name__ == "__main__":
    main()
