"""Fine-tuning after pruning."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import BatchStream
from asrprune.lm.training.optimizers import OptimizerConfig
from asrprune.prune.groups import Group
from asrprune.prune.masks import Masks, apply_masks
from asrprune.prune.run import fine_tuning
from asrprune.prune.run.fine_tuning import (
    Begun,
    Movement,
    Spent,
    fine_tune_pruned,
    perplexity_per_token,
)
from asrprune.prune.run.plan import FineTuning, Plan
from asrprune.prune.run.scorer import DataScorer, PruningData
from asrprune.text.corpus import TokenStream
from tests.prune import small_models
from tests.prune.tiny_lm import V, tiny
from tests.small_lm import drawn_model


@pytest.mark.parametrize(
    ("save_s", "look", "at"), [(0.0, 1, [1, 2, 3, 4]), (0.0, 2, [2, 4]), (300.0, 1, [])]
)
def test_a_state_is_saved_when_it_is_time_and_a_step_follows(
    save_s: float, look: int, at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tuning, "SAVE_S", save_s)
    monkeypatch.setattr(fine_tuning, "LOOK_STEPS", look)
    settings_ = FineTuning(batch_tokens=64, distill=False, precision="fp32")
    saved: list[Begun] = []
    batches = BatchStream(corpus(), 64, 1, 16)
    spent = fine_tune_pruned(tiny(), batches, 200, settings_, {}, save=saved.append)
    assert spent.steps == 5
    assert [one.loop["steps"] for one in saved] == at
    assert [len(one.losses) for one in saved] == at
    assert all(sum(one.losses[:, 0].tolist()) == one.loop["tokens"] for one in saved)


def test_movement_is_added_up_over_the_steps_of_fine_tuning() -> None:
    """Against the same training with -w g added up by hand; without it nothing else changes."""
    rng = np.random.default_rng(2)
    data = TokenStream.from_sentences([rng.integers(3, V, size=5).tolist() for _ in range(60)])
    settings_ = FineTuning(batch_tokens=64, distill=False, precision="fp32")
    found: dict[str, Movement] = {}
    model, other = tiny(), tiny()
    spent = fine_tune_pruned(
        model, BatchStream(data, 64, 1, 16), 200, settings_, {}, movement=found
    )
    weight = other.blocks[1].linear("ffn.up").weight
    expected = torch.zeros_like(weight)

    def add(gradient: torch.Tensor) -> None:
        expected.sub_(weight.detach() * gradient)

    weight.register_hook(add)
    fine_tune_pruned(other, BatchStream(data, 64, 1, 16), 200, settings_, {})
    assert spent.steps > 1
    assert torch.equal(model.blocks[1].linear("ffn.up").weight, weight)
    assert torch.allclose(found["1.ffn.up.weight"].mean, expected / spent.tokens)
    assert torch.equal(found["1.ffn.up.weight"].weight, weight)
    plan = Plan(criterion="movement", statistics_tokens=60)
    group = Group(Place(1, "ffn.up"), model.blocks[1].linear("ffn.up"), "weight", 1, 1, cost=1)
    scored = DataScorer(plan, PruningData(data), 0, found).scores(model, [group])[0]
    assert torch.allclose(scored, expected / spent.tokens - expected.min() / spent.tokens)
    assert scored.min() == 0


def corpus(count: int = 60) -> TokenStream:
    rng = np.random.default_rng(2)
    return TokenStream.from_sentences(
        [rng.integers(3, V, size=rng.integers(0, 7)).tolist() for _ in range(count)]
    )


def half_masks(model: TransformerLM) -> Masks:
    """Half of every matrix of the first block is removed."""
    generator = torch.Generator().manual_seed(0)
    masks = {
        place: torch.rand(linear.product().shape, generator=generator) < 0.5
        for place, linear in model.linears()
        if place.block == 0
    }
    apply_masks(model, masks)
    return masks


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("name", small_models.SHAPES)
def test_what_is_removed_stays_zero_and_the_rest_learns(name: str, optimizer: str) -> None:
    model = drawn_model(small_models.SHAPES[name])
    masks = half_masks(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with_weights = OptimizerConfig(optimizer, lr=1e-2, muon_lr=1e-2)
    settings_ = FineTuning(batch_tokens=64, distill=False, precision="fp32", optimizer=with_weights)
    spent = fine_tune_pruned(model, BatchStream(corpus(), 64, 1, 12), 300, settings_, masks)
    assert 300 <= spent.tokens < 300 + 64
    assert spent.steps >= 5
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    for place, linear in model.linears():
        kept = masks.get(place, torch.ones_like(linear.product(), dtype=torch.bool))
        assert not linear.product()[~kept].any()
        assert (linear.product() != before[f"blocks.{place}.weight"])[kept].float().mean() > 0.9


def test_what_is_removed_has_no_gradient_that_is_clipped_with_the_rest() -> None:
    model = tiny()
    masks = half_masks(model)
    seen = {place: [] for place in masks}
    for place, linear in model.linears():
        if place in masks:
            linear.product().register_post_accumulate_grad_hook(
                lambda weight, place=place: seen[place].append(weight.grad.clone())
            )
    settings_ = FineTuning(batch_tokens=64, distill=False, precision="fp32")
    fine_tune_pruned(model, BatchStream(corpus(), 64, 1, 16), 100, settings_, masks)
    for place, gradients in seen.items():
        assert len(gradients) >= 2
        for gradient in gradients:
            assert not gradient[~masks[place]].any()
            assert gradient[masks[place]].any()


def test_no_tokens_change_nothing() -> None:
    model = tiny().train()
    before = copy.deepcopy(model.state_dict())
    spent = fine_tune_pruned(model, BatchStream(corpus(), 64, 1, 16), 0, FineTuning(), {})
    assert spent == Spent()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_perplexity_counts_sentence_ends_and_skips_what_does_not_fit() -> None:
    model = tiny()
    sentences = [[3, 4, 5], [], [6], list(range(3, 19))]  # the last is longer than 15 tokens
    stream = TokenStream.from_sentences(sentences)
    nll = tokens = 0.0
    for sentence in sentences[:3]:
        with torch.no_grad():
            logits = model.logits(model(torch.tensor([[1, *sentence]]))[0])[0].double()
        for place, target in enumerate([*sentence, 2]):
            nll -= float(logits[place].log_softmax(0)[target])
            tokens += 1
    found = perplexity_per_token(model, stream, 64)
    assert found == pytest.approx(math.exp(nll / tokens), rel=1e-5)
    assert math.isnan(perplexity_per_token(model, TokenStream.from_sentences([[3] * 16]), 64))


def test_what_was_spent_adds_up() -> None:
    assert Spent(3, 1, 0.5) + Spent(4, 2, 1.5) == Spent(7, 3, 2.0)
