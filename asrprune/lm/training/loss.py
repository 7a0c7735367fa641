"""Training losses over logits, next-token cross entropy among them, a few rows at a time.

Logits are the largest tensors of training by far. ``loss_of_logits`` makes them for some positions
at a time, each part with its gradient, so that no more of them exist: without a GPU so few that
they stay in the processor's cache (a step of a small LM in bf16 is 1.2 to 1.3 times as fast,
measured; tests/bench/RESULTS.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import torch
from torch import Tensor

from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED, Batch

LossFunction = Callable[[TransformerLM, Batch], Tensor]
"""A scalar: the sum over the batch's scored positions of whatever is minimised."""

Part = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""Of the logits [n, V] float32 of some positions, which it may overwrite, and the number of the
first: their loss, a scalar, and its gradient by the logits [n, V]."""

LOGITS_AT_ONCE = 1 << 25
"""Logits that exist at one time on a GPU, and where there are no gradients."""

CACHED_LOGITS = 1 << 20
"""Logits that exist at one time in the training of a CPU."""

FEWEST_ROWS = 256
"""Rows that are made at one time on a CPU, however large the vocabulary: the output layer is read
once for each."""


def next_token_loss(model: TransformerLM, batch: Batch) -> Tensor:
    """Sum over the scored positions of -ln P(target | tokens so far), a float32 scalar.

    ``</s>`` is scored, padding is not. Divide by ``batch.n_targets`` for the mean. There are no
    second derivatives.
    """
    hidden, _ = model(batch.tokens)  # [B, T, D]
    scored = batch.targets != IGNORED
    wanted = batch.targets[scored]  # [N]

    def nll(logits: Tensor, start: int) -> tuple[Tensor, Tensor]:
        return cross_entropy(logits, wanted[start : start + len(logits)])

    return loss_of_logits(model, hidden[scored], nll)


def cross_entropy(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of -ln softmax(logits)[wanted], and its gradient by ``logits`` [n, V]."""
    column = wanted[:, None]  # [n, 1]
    log_q = logits.log_softmax(-1)
    nll = -log_q.gather(1, column)  # [n, 1]
    gradient = log_q.exp_().scatter_add_(1, column, torch.full_like(nll, -1.0))
    return nll.sum(), gradient


def loss_of_logits(
    model: TransformerLM, hidden: Tensor, part: Part, rows: Optional[int] = None
) -> Tensor:
    """The sum of ``part`` over ``rows`` rows of the logits at a time: a float32 scalar.

    ``hidden`` [N, D]: of the positions that count. Where gradients are wanted they are made with
    the loss, and not again in the backward pass. ``rows``: as many as are fast, if not given.
    """
    features = model.embedding.features(hidden)  # [N, D or rank]
    table = model.embedding.output_weight  # [V, D or rank]
    form = model.logits(hidden[:0]).dtype  # that of products: autocast's, if it is on
    if not torch.is_grad_enabled():
        features, table = features.detach(), table.detach()  # type: ignore[assignment]
    if rows is None:
        rows = _fast_rows(len(table), hidden.device)
    total: Tensor = _LossOfLogits.apply(features, table, part, form, rows)  # type: ignore[no-untyped-call]
    return total


class _LossOfLogits(torch.autograd.Function):
    """The loss [] of features [N, D] and the output layer [V, D], with the gradients by both."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, table: Tensor, part: Part, form: torch.dtype, rows: int
    ) -> Tensor:
        by_features, by_table = ctx.needs_input_grad[:2]
        total = torch.zeros((), dtype=torch.float32, device=features.device)
        d_features = torch.empty_like(features, dtype=form) if by_features else None
        d_table = torch.zeros_like(table, dtype=torch.float32) if by_table else None
        inner, weight = features.to(form), table.to(form)
        for start in range(0, len(inner), rows):
            some = inner[start : start + rows]
            loss, gradient = part(torch.mm(some, weight.t()).float(), start)
            total += loss
            gradient = gradient.to(form)
            if d_features is not None:
                torch.mm(gradient, weight, out=d_features[start : start + rows])
            if d_table is not None:
                d_table += torch.mm(gradient.t(), some)
        ctx.save_for_backward(d_features, d_table)
        ctx.forms = features.dtype, table.dtype
        return total

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> Any:  # type: ignore[override]
        made = zip(ctx.saved_tensors, ctx.forms)
        return *(None if one is None else one.to(form) * factor for one, form in made), *[None] * 3


def _fast_rows(vocab_size: int, device: torch.device) -> int:
    if device.type == "cpu":
        return max(FEWEST_ROWS, CACHED_LOGITS // vocab_size)
    return max(1, LOGITS_AT_ONCE // vocab_size)
