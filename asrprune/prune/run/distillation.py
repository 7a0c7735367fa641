"""Distillation: the pruned model learns its dense parent's whole distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED, Batch
from asrprune.lm.training.loss import LossFunction, loss_of_logits


def distilling(teacher: TransformerLM, temperature: float, weight: float) -> LossFunction:
    """A loss: the sum over scored positions of ``(1 - w) CE + w t^2 KL(teacher || student)``.

    w = ``weight``, t = ``temperature``. CE is the next-token cross-entropy in nats, KL that
    between both models' distributions softened by t.

    Source: Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), section 2: the factor t^2 keeps the
    gradients' size independent of t.

    Raises ValueError for a temperature that is not positive or a weight outside 0..1.
    """
    if not temperature > 0.0:
        raise ValueError(f"temperature is {temperature}; expected > 0")
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"distillation weight is {weight}; expected 0..1")

    def loss(student: TransformerLM, batch: Batch) -> Tensor:
        scored = batch.targets != IGNORED
        wanted = batch.targets[scored]  # [N]
        with torch.no_grad():
            guide = teacher(batch.tokens)[0][scored]  # [N, D of the teacher]
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

        return loss_of_logits(student, hidden, part)

    return loss
