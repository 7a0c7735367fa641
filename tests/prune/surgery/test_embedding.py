"""The tied embedding as two factors, and with zeros."""

from __future__ import annotations

import copy

import pytest
import torch

from asrprune.lm.training.batches import IGNORED
from asrprune.prune.surgery.embedding import embedding_mask, factor_embedding
from tests.prune.small_models import SHAPES
from tests.prune.tiny_lm import V, batches, tiny
from tests.small_lm import drawn_model


def test_a_factored_embedding_loses_least_of_the_logits() -> None:
    model = tiny()
    whole = model.embedding.weight.detach().clone()
    made = factor_embedding(model, 5, batches(), 10**9)
    assert made.weight.shape == (V, 5)
    assert made.projection is not None
    hidden, targets = [], []
    for one in batches():
        scored = one.targets != IGNORED
        hidden.append(model(one.tokens)[0][scored].detach())
        targets.append(one.targets[scored])
    share = torch.bincount(torch.cat(targets), minlength=V) + 1.0
    share /= share.sum()

    def lost(near: torch.Tensor) -> float:
        change = torch.cat(hidden) @ (whole - near).T  # [N, V]
        return float((change.square().mean(0) * share).sum())

    found = lost((made.weight @ made.projection).detach())
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        noise = 0.02 * torch.randn(made.weight.shape, generator=generator)
        assert lost(((made.weight + noise) @ made.projection).detach()) > found
    left, values, right = torch.linalg.svd(whole, full_matrices=False)
    assert lost((left[:, :5] * values[:5]) @ right[:5]) > found
    again = copy.deepcopy(model)
    again.embedding = made
    smaller = factor_embedding(again, 3, batches(), 10**9)
    assert smaller.weight.shape == (V, 3)
    with pytest.raises(ValueError, match="1 <= embedding_rank <= 4"):
        factor_embedding(again, 5, batches(), 10**9)


@pytest.mark.parametrize("sparsity", [0.0, 0.37, 0.9, 0.999])
def test_the_weights_of_the_embedding_that_stay_are_worth_most(sparsity: float) -> None:
    model = tiny()
    kept = embedding_mask(model, sparsity, batches(), 10**9)
    assert int((~kept).sum()) == round(sparsity * kept.numel())
    hidden = torch.cat([model(one.tokens)[0][one.targets != IGNORED] for one in batches()]).detach()
    targets = torch.cat([one.targets[one.targets != IGNORED] for one in batches()]).tolist()
    worth = []
    for v, row in enumerate(model.embedding.weight.tolist()):
        share = (targets.count(v) + 1) / (len(targets) + V)
        for d, weight in enumerate(row):
            worth.append(weight**2 * share**0.5 * float((hidden[:, d] ** 2).mean()))
    stays = sorted(range(len(worth)), key=lambda place: worth[place])[int((~kept).sum()) :]
    assert kept.flatten().nonzero().flatten().tolist() == sorted(stays)


def test_the_model_is_left_as_it_was() -> None:
    model = tiny().train()
    before = copy.deepcopy(model.state_dict())
    factor_embedding(model, 3, batches(), 10**9)
    embedding_mask(model, 0.5, batches(), 10**9)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_an_output_layer_of_its_own_and_a_text_without_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 0, as the output layer is not tied"):
        factor_embedding(drawn_model(SHAPES["llama"]), 2, batches(), 100)
    with pytest.raises(ValueError, match="expected 0: the output layer is not tied"):
        embedding_mask(drawn_model(SHAPES["llama"]), 0.5, batches(), 100)
    factored = tiny()
    factored.embedding = factor_embedding(factored, 3, batches(), 100)
    with pytest.raises(ValueError, match="expected 0, as the embedding has two factors"):
        embedding_mask(factored, 0.5, batches(), 100)
    with pytest.raises(ValueError, match="no token to measure the embedding on"):
        factor_embedding(tiny(), 3, [], 100)
    with pytest.raises(ValueError, match="no token to measure the embedding on"):
        embedding_mask(tiny(), 0.5, [], 100)
    for rank in (0, 10):
        with pytest.raises(ValueError, match="expected 1 <= embedding_rank <= 9"):
            factor_embedding(tiny(), rank, batches(), 100)
