"""The training loss: next-token cross entropy on scored positions, in chunks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED, Batch

LossFunction = Callable[[TransformerLM, Batch], Tensor]
"""A scalar: the sum over the batch's scored positions of whatever is minimised."""

LOGITS_AT_ONCE = 1 << 25
"""Logits that exist at one time; beyond it, a chunk's are made again for its gradient."""


def next_token_loss(model: TransformerLM, batch: Batch) -> Tensor:
    """Sum over the scored positions of -ln P(target | tokens so far), a float32 scalar.

    ``</s>`` is scored, padding is not. Divide by ``batch.n_targets`` for the mean.
    """
    hidden, _ = model(batch.tokens)  # [B, T, D]
    scored = batch.targets != IGNORED
    hidden, wanted = hidden[scored], batch.targets[scored]  # [N, D], [N]
    rows = max(1, LOGITS_AT_ONCE // model.embedding.vocab_size)
    remake = len(wanted) > rows and torch.is_grad_enabled()
    total: Tensor = hidden.new_zeros((), dtype=torch.float32)
    for start in range(0, len(wanted), rows):
        part = (model, hidden[start : start + rows], wanted[start : start + rows])
        if remake:
            nll: Tensor = checkpoint(_nll, *part, use_reentrant=False, preserve_rng_state=False)
        else:
            nll = _nll(*part)
        total = total + nll
    return total


def _nll(model: TransformerLM, hidden: Tensor, wanted: Tensor) -> Tensor:
    logits = model.logits(hidden)  # [n, V]
    return functional.cross_entropy(logits.float(), wanted, reduction="sum")
