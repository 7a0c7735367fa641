"""FineTuning: fine-tuning after pruning, and the perplexity that judges it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

from asrprune.core.progress import Progress
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import BatchStream, usable_sentences
from asrprune.lm.training.distributed import ProcessGroup
from asrprune.lm.training.loop import Budget, Step, TrainingLoop, fine_tune
from asrprune.lm.training.loss import LossFunction, next_token_loss
from asrprune.lm.training.nll import stream_nll
from asrprune.prune.masks import Masks, apply_masks, masked_weights
from asrprune.prune.run.distillation import distilling
from asrprune.prune.run.plan import FineTuning
from asrprune.prune.run.sandwich import PARTS, Sandwich
from asrprune.text.corpus import TokenStream

SAVE_S = 300.0
"""Seconds of fine-tuning from one state that a killed run goes on from to the next."""

LOOK_STEPS = 8
"""Optimiser steps between two looks at the clock for that, on which all processes agree."""

CURVE_POINTS = 8
"""Points of the learning curve that a pruning step leaves in the history."""


@dataclass(frozen=True)
class Spent:
    """What fine-tuning used: predicted tokens, optimiser steps, seconds. Adds up."""

    tokens: int = 0
    steps: int = 0
    wall_s: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.tokens + other.tokens, self.steps + other.steps, self.wall_s + other.wall_s
        )


@dataclass(frozen=True)
class Movement:
    """The mean of ``-w g`` per token of a parameter in fine-tuning, and its weights after it."""

    mean: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Begun:
    """Fine-tuning between two optimiser steps: all that the rest of it needs but the model.

    ``loop``: TrainingLoop.state() without the model; ``losses`` [steps, 2]: tokens and loss of
    those made, float64; ``movement``: sums of ``-w g`` over all processes; ``wall_s`` so far.
    """

    loop: Mapping[str, Any]
    losses: Tensor
    movement: Mapping[str, Tensor]
    wall_s: float


def fine_tune_pruned(
    model: TransformerLM,
    batches: BatchStream,
    tokens: int,
    fine_tuning: FineTuning,
    masks: Masks,
    teacher: Optional[TransformerLM] = None,
    seed: int = 1,
    movement: Optional[dict[str, Movement]] = None,
    group: Optional[ProcessGroup] = None,
    losses: Optional[list[tuple[int, float]]] = None,
    sandwich: Optional[Sandwich] = None,
    begun: Optional[Begun] = None,
    save: Optional[Callable[[Begun], None]] = None,
) -> Spent:
    """Train the model in place on ``tokens`` predicted tokens (whole batches), masks kept.

    With a ``teacher`` the loss distils from it. ``movement`` is filled with that of every matrix,
    ``losses`` with (tokens, loss) of each optimiser step. With a ``sandwich`` PARTS batches make an
    optimiser step, each for one size of an elastic LM. What is left is made of what has ``begun``
    on this model; every SAVE_S seconds, ``save`` gets where it stands.
    The processes of ``group`` share out the sentences of each batch.
    The learning rate warms up and decays within this call; the model is left in evaluation mode.
    Raises ValueError when the loss is not finite.
    """
    if tokens <= 0:
        return Spent()
    started = time.monotonic()
    steps = math.ceil(tokens / fine_tuning.batch_tokens)
    warmup = min(fine_tuning.optimizer.warmup_steps, steps // 10)
    loss: LossFunction = next_token_loss
    if teacher is not None:
        loss = distilling(
            teacher,
            fine_tuning.temperature,
            fine_tuning.distill_weight,
            fine_tuning.distill_hidden,
        )
    if sandwich is not None:
        loss = sandwich.losing(loss)
    group = ProcessGroup(device=model.device) if group is None else group
    made = [] if losses is None else losses
    sums: dict[str, Tensor] = {}
    wall_s = 0.0
    if begun is not None:
        made.extend((int(count), value) for count, value in begun.losses.tolist())
        wall_s = begun.wall_s
        if group.is_first:  # they are of all processes
            sums.update(begun.movement)
    saved = started
    watch = contextlib.nullcontext() if movement is None else _added_movement(model, sums)
    bar = Progress("fine-tuning", tokens, "tokens", sum(count for count, _ in made))
    with _held_gradients(model, masks), watch, bar:

        def after_step(step: Step) -> None:
            apply_masks(model, masks)  # optimisers with momentum move what has no gradient
            bar.add(step.tokens)
            made.append((step.tokens, step.loss))

        def between(loop: TrainingLoop) -> None:
            nonlocal saved
            if save is None or loop.steps % LOOK_STEPS:
                return
            if group.from_first(lambda: time.monotonic() - saved < SAVE_S):
                return
            parts = {name: sums[name].clone() for name in sorted(sums)}
            group.add_up(list(parts.values()))
            state = {name: one for name, one in loop.state().items() if name != "model"}
            losses_so_far = torch.tensor(made, dtype=torch.float64)
            save(Begun(state, losses_so_far, parts, wall_s + time.monotonic() - started))
            saved = time.monotonic()

        done = fine_tune(
            model,
            batches,
            replace(fine_tuning.optimizer, warmup_steps=warmup),
            Budget(max_tokens=tokens),
            accumulation=1 if sandwich is None else PARTS,
            precision=fine_tuning.precision,
            seed=seed,
            loss=loss,
            group=group,
            after_step=after_step,
            begun=None if begun is None else {**begun.loop, "model": model.state_dict()},
            between=between,
        )
    model.zero_grad(set_to_none=True)
    if sandwich is not None:
        sandwich.elastic.use(model, None)
    if movement is not None:
        parameters = _matrix_parameters(model)
        moved = [name for name in parameters if name in sums]
        group.add_up([sums[name] for name in moved])
        for name in moved:
            weight = parameters[name].detach().clone()
            movement[name] = Movement(sums[name] / done.tokens, weight)
    return Spent(done.tokens, done.steps, wall_s + time.monotonic() - started)


def learning_curve(losses: Sequence[tuple[int, float]]) -> list[list[float]]:
    """CURVE_POINTS points at most [tokens so far, mean loss per token since the point before], of
    (tokens, loss) of steps.

    >>> learning_curve([(10, 5.0), (30, 3.0)])
    [[10, 5.0], [40, 3.0]]
    """
    points: list[list[float]] = []
    ends = [len(losses) * part // CURVE_POINTS for part in range(CURVE_POINTS + 1)]
    done = 0
    for first, end in zip(ends, ends[1:]):
        tokens = sum(count for count, _ in losses[first:end])
        if tokens:
            done += tokens
            total = sum(count * loss for count, loss in losses[first:end])
            points.append([done, round(total / tokens, 4)])
    return points


@contextlib.contextmanager
def _held_gradients(model: TransformerLM, masks: Masks) -> Iterator[None]:
    """Gradients of what is masked are zero, so that neither clipping nor Muon sees them."""
    handles = [
        weight.register_hook(mask.mul)  # type: ignore[no-untyped-call]
        for weight, mask in masked_weights(model, masks)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _added_movement(model: TransformerLM, sums: dict[str, Tensor]) -> Iterator[None]:
    """Adds ``-w dL/dw`` of every backward pass to ``sums``, L the loss summed over tokens."""

    def adding(name: str, parameter: Tensor) -> Callable[[Tensor], None]:
        def add(gradient: Tensor) -> None:
            product = parameter.detach() * gradient
            sums[name] = -product if name not in sums else sums[name].sub_(product)

        return add

    handles = [
        parameter.register_hook(adding(name, parameter))  # type: ignore[no-untyped-call]
        for name, parameter in _matrix_parameters(model).items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _matrix_parameters(model: TransformerLM) -> dict[str, Tensor]:
    """The parameters of all matrices of the blocks but biases, by ``Group.parameter``."""
    return {
        f"{place}.{part}": parameter
        for place, linear in model.linears()
        for part, parameter in linear.parts.items()
    }


def perplexity_per_token(
    model: TransformerLM,
    stream: TokenStream,
    batch_tokens: int,
    group: Optional[ProcessGroup] = None,
) -> float:
    """``exp`` of the mean -ln P per token, ``</s>`` counted, over all sentences that fit.

    nan for a stream without such sentences. The sum is kept in float64.
    """
    indices = usable_sentences(stream, model.max_positions)
    count = int(stream.lengths[indices].sum()) + len(indices)
    if not count:
        return math.nan
    total = stream_nll(model, stream, indices, batch_tokens, group).sum()
    return float(np.exp(total / count))
