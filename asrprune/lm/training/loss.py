"""The training loss: next-token cross entropy on scored positions, in chunks.

A large vocabulary makes logits the largest tensors by far; ``in_chunks`` bounds them for every
loss over positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED, Batch

LossFunction = Callable[[TransformerLM, Batch], Tensor]
"""A scalar: the sum over the batch's scored positions of whatever is minimised."""

Part = Callable[[Tensor, int], Tensor]
"""Of the hidden states [n, D] of some positions, and the number of the first: a loss."""

LOGITS_AT_ONCE = 1 << 25
"""Logits that exist at one time."""


def next_token_loss(model: TransformerLM, batch: Batch) -> Tensor:
    """Sum over the scored positions of -ln P(target | tokens so far), a float32 scalar.

    ``</s>`` is scored, padding is not. Divide by ``batch.n_targets`` for the mean.
    """
    hidden, _ = model(batch.tokens)  # [B, T, D]
    scored = batch.targets != IGNORED
    wanted = batch.targets[scored]  # [N]

    def nll(inner: Tensor, start: int) -> Tensor:
        logits = model.logits(inner).float()  # [n, V]
        here = wanted[start : start + len(inner)]
        return functional.cross_entropy(logits, here, reduction="sum")

    return sum_in_chunks(nll, hidden[scored], LOGITS_AT_ONCE // model.embedding.vocab_size)


def sum_in_chunks(part: Part, hidden: Tensor, rows: int) -> Tensor:
    """The sum of ``in_chunks``, where ``part`` gives a scalar: a float32 scalar."""
    total: Tensor = hidden.new_zeros((), dtype=torch.float32)
    for value in in_chunks(part, hidden, rows):
        total = total + value
    return total


def in_chunks(part: Part, hidden: Tensor, rows: int) -> Iterator[Tensor]:
    """``part(inner, start)`` of ``rows`` rows (at least one) of ``hidden`` [N, D] at a time.

    ``inner`` is ``hidden[start : start + rows]``; of no rows there is one part, so that every
    parameter has a gradient. What ``part`` needs between is not kept for the gradient where there
    are several chunks, but made again.
    """
    rows = max(1, rows)
    remake = len(hidden) > rows and torch.is_grad_enabled()
    for start in range(0, max(1, len(hidden)), rows):
        inner = hidden[start : start + rows]
        if remake:
            yield checkpoint(part, inner, start, use_reentrant=False, preserve_rng_state=False)
        else:
            yield part(inner, start)
