"""Distillation: the pruned model learns its dense parent's whole distribution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED, Batch
from asrprune.lm.training.loss import LossFunction, sum_in_chunks

LOGITS_AT_ONCE = 1 << 24
"""Logits of each of the two models that exist at one time."""


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

        def part(inner: Tensor, start: int) -> Tensor:
            stop = start + len(inner)
            logits = student.logits(inner).float()  # [n, V]
            with torch.no_grad():
                softened = teacher.logits(guide[start:stop]).float() / temperature
            log_p = functional.log_softmax(logits, -1)
            if temperature == 1.0:
                log_q = log_p
            else:
                log_q = functional.log_softmax(logits / temperature, -1)
            divergence = functional.kl_div(
                log_q, functional.log_softmax(softened, -1), reduction="sum", log_target=True
            )
            data_loss = functional.nll_loss(log_p, wanted[start:stop], reduction="sum")
            return (1.0 - weight) * data_loss + weight * temperature**2 * divergence

        return sum_in_chunks(part, hidden, LOGITS_AT_ONCE // student.embedding.vocab_size)

    return loss
