"""The gradient of a step is that of the mean loss per token, before it is clipped."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import BatchStream
from asrprune.lm.training.loop import Budget, TrainingLoop
from asrprune.lm.training.loss import next_token_loss
from asrprune.lm.training.optimizers import OptimizerConfig
from asrprune.text.corpus import TokenStream


def model() -> TransformerLM:
    torch.manual_seed(0)
    return TransformerLM(ModelShape.uniform(13, 8, 2, 2, max_positions=12))


def batches() -> BatchStream:
    draw = np.random.default_rng(0)
    sentences = [draw.integers(3, 13, draw.integers(1, 9)).tolist() for _ in range(80)]
    return BatchStream(TokenStream.from_sentences(sentences), 32, seed=1, max_positions=12)


@pytest.mark.parametrize(("clip", "accumulation"), [(0.0, 1), (0.01, 3), (1e3, 3)])
def test_the_gradient_is_that_of_the_mean_over_all_tokens(clip: float, accumulation: int) -> None:
    config = OptimizerConfig("adamw", lr=0.0, clip=clip)
    loop = TrainingLoop(model(), batches(), config, Budget(max_steps=1), accumulation)
    step = loop.step()
    other, source = model(), batches()
    taken = [source.next_batch() for _ in range(accumulation)]
    tokens = sum(batch.n_targets for batch in taken)
    mean = torch.stack([next_token_loss(other, batch) for batch in taken]).sum() / tokens
    mean.backward()
    expected = torch.cat([p.grad.flatten() for p in other.parameters() if p.grad is not None])
    assert step.tokens == tokens
    assert step.loss == pytest.approx(mean.item(), rel=1e-5)
    assert step.gradient_norm == pytest.approx(float(expected.norm()), rel=1e-4)
    used = torch.cat([p.grad.flatten() for p in loop.model.parameters() if p.grad is not None])
    if clip == 0.01:
        expected = expected * 0.01 / expected.norm()
    torch.testing.assert_close(used, expected, rtol=1e-3, atol=1e-6)


def _gradients(
    dropout: float, architecture: str, again: bool
) -> tuple[dict[str, torch.Tensor], int]:
    """The gradients of a batch, and the bytes that were kept for them."""
    torch.manual_seed(0)
    shape = ModelShape.uniform(13, 8, 3, 2, 16, 12, dropout, architecture=architecture)
    lm = TransformerLM(shape).train()
    lm.checkpoint_activations = again
    kept = 0

    def keep(value: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += value.nbytes
        return value

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        loss = next_token_loss(lm, batches().next_batch())
    loss.backward()
    return {name: p.grad for name, p in lm.named_parameters() if p.grad is not None}, kept


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_activations_made_again_give_the_same_gradients(architecture: str, dropout: float) -> None:
    kept, bytes_kept = _gradients(dropout, architecture, again=False)
    again, bytes_again = _gradients(dropout, architecture, again=True)
    assert kept.keys() == again.keys()
    for name, gradient in kept.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-6, atol=1e-8)
    assert bytes_again < bytes_kept / 3
