"""Distillation: the pruned model learns its dense parent's whole distribution, and its hidden
states."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED, Batch
from asrprune.lm.training.loss import LossFunction, loss_of_logits


def distilling(
    teacher: TransformerLM, temperature: float, weight: float, hidden_weight: float = 0.0
) -> LossFunction:
    """A loss: the sum over scored positions of ``(1 - w) CE + w t^2 KL(teacher || student) + h H``.

    w = ``weight``, t = ``temperature``, h = ``hidden_weight``. CE is the next-token cross-entropy
    in nats, KL that between both models' distributions softened by t, H the mean over blocks of
    ``|s - t|^2 / |t|^2``, s and t [D] what stands behind the block in student and teacher.

    Sources: Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), section 2: the factor t^2 keeps the
    gradients' size independent of t. Kurtic et al. 2023 (SquareHead, arXiv 2310.06927) for H: there
    the quotient is that of a batch, here of a position, so that processes can share a batch out.

    Raises ValueError for a temperature that is not positive, a weight outside 0..1 or a hidden
    weight below 0; the loss raises it where H compares blocks of other number or width.
    """
    if not temperature > 0.0:
        raise ValueError(f"temperature is {temperature}; expected > 0")
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"distillation weight is {weight}; expected 0..1")
    if not hidden_weight >= 0.0:
        raise ValueError(f"weight of hidden states is {hidden_weight}; expected >= 0")

    def loss(student: TransformerLM, batch: Batch) -> Tensor:
        scored = batch.targets != IGNORED
        wanted = batch.targets[scored]  # [N]
        with torch.no_grad(), behind_blocks(teacher, hidden_weight > 0.0) as guiding_states:
            guide = teacher(batch.tokens)[0][scored]  # [N, D of the teacher]
        with behind_blocks(student, hidden_weight > 0.0) as states:
            hidden = student(batch.tokens)[0][scored]  # [N, D]

        def part(logits: Tensor, start: int) -> tuple[Tensor, Tensor]:
            stop = start + len(logits)
            column = wanted[start:stop, None]  # [n, 1]
            log_q = logits.log_softmax(-1)  # [n, V]
            nll = -log_q.gather(1, column)
            softened = log_q if temperature == 1.0 else (logits / temperature).log_softmax(-1)
            guiding = teacher.logits(guide[start:stop]).float()
            log_p = (guiding if temperature == 1.0 else guiding / temperature).log_softmax(-1)
            p = log_p.exp()
            divergence = torch.dot(p.view(-1), log_p.sub_(softened).view(-1))
            if softened is log_q:  # (1 - w) q + w (q - p): one softmax serves both losses
                gradient = log_q.exp_().sub_(p, alpha=weight)
            else:
                by_teacher = softened.exp_().sub_(p).mul_(weight * temperature)
                gradient = log_q.exp_().mul_(1.0 - weight).add_(by_teacher)
            gradient.scatter_add_(1, column, torch.full_like(nll, weight - 1.0))
            return (1.0 - weight) * nll.sum() + weight * temperature**2 * divergence, gradient

        total = loss_of_logits(student, hidden, part)
        if hidden_weight > 0.0:
            total = total + hidden_weight * hidden_distance(states, guiding_states, scored)
        return total

    return loss


@contextlib.contextmanager
def behind_blocks(model: TransformerLM, wanted: bool = True) -> Iterator[list[Tensor]]:
    """A list that the passes in the context fill with what stands behind each block [B, T, D]."""
    states: list[Tensor] = []

    def keep(block: Any, given: Any, made: tuple[Tensor, Any]) -> None:
        states.append(made[0])

    handles = [one.register_forward_hook(keep) for one in model.blocks] if wanted else []
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


def hidden_distance(states: Sequence[Tensor], wanted: Sequence[Tensor], scored: Tensor) -> Tensor:
    """The sum over the positions ``scored`` [B, T] of the mean over blocks of the squared distance
    of ``states`` [B, T, D] from those ``wanted``, in squared lengths of the latter.

    Raises ValueError for blocks of other number or width.
    """
    found, expected = ([one.shape[-1] for one in some] for some in (states, wanted))
    if found != expected:
        raise ValueError(
            f"widths behind the blocks are {found}; expected the teacher's, {expected}"
        )
    total = torch.zeros((), device=scored.device)
    for state, goal in zip(states, wanted):
        goal = goal[scored].float()  # [N, D]
        distance = (state[scored].float() - goal).square().sum(-1)
        total = total + (distance / goal.square().sum(-1).clamp_min(1e-12)).sum()
    return total / max(len(states), 1)
