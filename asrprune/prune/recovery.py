"""Recovery: fine-tuning after pruning, and the perplexity that judges it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np
import torch

from asrprune.lm.batches import BatchStream, sorted_batches, usable_sentences
from asrprune.lm.layers import DenseLinear
from asrprune.lm.loss import LossFunction, next_token_loss
from asrprune.lm.optimizers import make_optimizer
from asrprune.lm.transformer import TransformerLM
from asrprune.prune.distillation import distilling
from asrprune.prune.methods.method import Masks, matrix_key
from asrprune.prune.methods.unstructured import apply_masks
from asrprune.prune.plan import Recovery
from asrprune.text.corpus import TokenStream


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


def fine_tune(
    model: TransformerLM,
    batches: BatchStream,
    tokens: int,
    recovery: Recovery,
    masks: Masks,
    teacher: Optional[TransformerLM] = None,
    progress: bool = True,
) -> Spent:
    """Train the model in place on ``tokens`` predicted tokens (whole batches), masks kept.

    With a ``teacher`` the loss distils from it. The learning rate warms up and decays within this
    call. Raises ValueError when the loss is not a number.
    """
    from tqdm import tqdm

    if tokens <= 0:
        return Spent()
    started = time.monotonic()
    device = model.positions.device
    config = recovery.optimizer
    expected_steps = math.ceil(tokens / recovery.batch_tokens)
    config = replace(config, warmup_steps=min(config.warmup_steps, expected_steps // 10))
    optimizer = make_optimizer(model, config)
    loss_of: LossFunction = next_token_loss
    if teacher is not None:
        loss_of = distilling(teacher, recovery.temperature, recovery.distill_weight)
    masked = _masked(model, masks)
    used = step = 0
    was_training = model.training
    model.train()
    with tqdm(total=tokens, unit="tok", disable=None if progress else True, leave=False) as bar:
        while used < tokens:
            batch = batches.next_batch().to(device)
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            count = batch.n_targets
            (loss / count).backward()  # type: ignore[no-untyped-call]
            value = float(loss.detach()) / count
            if not math.isfinite(value):
                raise ValueError(f"the loss is {value} at fine-tuning step {step}; lower the rate")
            for linear, mask in masked:  # so that no optimiser sees what is gone
                if linear.weight.grad is not None:
                    linear.weight.grad.mul_(mask)
            if config.clip > 0:
                torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step(config.lr_factor(step, used / tokens))
            apply_masks(model, masks)
            used += count
            step += 1
            bar.update(count)
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    return Spent(used, step, time.monotonic() - started)


def _masked(model: TransformerLM, masks: Masks) -> list[tuple[DenseLinear, torch.Tensor]]:
    return [
        (linear, masks[matrix_key(index, name)])
        for index, name, linear in model.linears()
        if isinstance(linear, DenseLinear) and matrix_key(index, name) in masks
    ]


def perplexity_per_token(model: TransformerLM, stream: TokenStream, batch_tokens: int) -> float:
    """``exp`` of the mean -ln P per token, ``</s>`` counted, over all sentences that fit.

    nan for a stream without such sentences. The sum is kept in float64.
    """
    device = model.positions.device
    indices = usable_sentences(stream, model.positions.shape[0])
    was_training = model.training
    model.eval()
    total, count = np.float64(0.0), 0
    with torch.no_grad():
        for _, batch in sorted_batches(stream, indices, batch_tokens):
            moved = batch.to(device)
            total += np.float64(float(next_token_loss(model, moved)))
            count += batch.n_targets
    model.train(was_training)
    return float(np.exp(total / count)) if count else math.nan
