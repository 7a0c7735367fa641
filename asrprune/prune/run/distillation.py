"""Distillation: the pruned model learns its dense parent's whole distribution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED, Batch
from asrprune.lm.training.loss import LossFunction, cross_entropy, loss_of_logits


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
            softened = teacher.logits(guide[start:stop]).float() / temperature  # [n, V]
            log_p = functional.log_softmax(softened, -1)
            log_q = functional.log_softmax(logits / temperature, -1)
            divergence = functional.kl_div(log_q, log_p, reduction="sum", log_target=True)
            gradient = log_q.exp_().sub_(log_p.exp_()).mul_(weight * temperature)
            data_loss, by_data = cross_entropy(logits, wanted[start:stop])
            gradient.add_(by_data, alpha=1.0 - weight)
            return (1.0 - weight) * data_loss + weight * temperature**2 * divergence, gradient

        return loss_of_logits(student, hidden, part)

    return loss
