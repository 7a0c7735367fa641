"""Losses over the vocabulary in chunks of positions: next-token and distillation."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from asrprune.lm.batches import IGNORED
from asrprune.lm.transformer import TransformerLM

CHUNK = 1024
"""Positions whose logits exist at one time; a chunk's logits are made again for its gradient."""


def summed_loss(model: TransformerLM, tokens: Tensor, targets: Tensor) -> Tensor:
    """Sum over the scored positions of -ln P(target | tokens so far), a scalar.

    ``tokens`` and ``targets`` [B, T] int64, target IGNORED = not scored.
    """
    hidden, _ = model(tokens)
    return _chunked(model, hidden, targets, None, None, 1.0, 0.0)


def distillation_loss(
    student: TransformerLM,
    teacher: TransformerLM,
    tokens: Tensor,
    targets: Tensor,
    temperature: float,
    weight: float,
) -> Tensor:
    """Sum over scored positions of ``(1 - weight) * CE + weight * t^2 * KL(teacher || student)``.

    CE is the next-token cross-entropy in nats; KL is between the two distributions at
    temperature t. Memory for logits is that of ``CHUNK`` positions, whatever the batch.

    Source: Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), section 2: the factor t^2 keeps the
    gradients' size independent of t.

    Raises ValueError for a temperature that is not positive or a weight outside 0..1.
    """
    if not temperature > 0.0:
        raise ValueError(f"temperature is {temperature}; expected > 0")
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"distillation weight is {weight}; expected 0 <= weight <= 1")
    with torch.no_grad():
        guide, _ = teacher(tokens)  # [B, T, D of the teacher]
    hidden, _ = student(tokens)
    return _chunked(student, hidden, targets, teacher, guide, temperature, weight)


def _chunked(
    model: TransformerLM,
    hidden: Tensor,
    targets: Tensor,
    teacher: Optional[TransformerLM],
    guide: Optional[Tensor],
    temperature: float,
    weight: float,
) -> Tensor:
    scored = targets != IGNORED
    hidden, wanted = hidden[scored], targets[scored]  # [N, D], [N]
    guide = None if guide is None else guide[scored]

    def part(inner: Tensor, start: int) -> Tensor:
        stop = start + CHUNK
        logits = model.logits(inner)  # [n, V]
        loss = functional.cross_entropy(logits, wanted[start:stop], reduction="sum")
        if teacher is None or guide is None:
            return loss
        with torch.no_grad():
            softened = teacher.logits(guide[start:stop]) / temperature
        divergence = functional.kl_div(
            functional.log_softmax(logits / temperature, -1),
            functional.log_softmax(softened, -1),
            reduction="sum",
            log_target=True,
        )
        return (1.0 - weight) * loss + weight * temperature**2 * divergence

    total = hidden.new_zeros(())
    one_chunk = len(wanted) <= CHUNK
    for start in range(0, len(wanted), CHUNK):
        inner = hidden[start : start + CHUNK]
        if one_chunk or not torch.is_grad_enabled():
            total = total + part(inner, start)
        else:
            total = total + checkpoint(part, inner, start, use_reentrant=False)
    return total
