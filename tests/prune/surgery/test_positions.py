"""Zeros in the table of learned positions."""

from __future__ import annotations

import copy

import pytest
import torch

from asrprune.lm.training.batches import IGNORED
from asrprune.prune.surgery.positions import positions_mask
from tests.prune.small_models import SHAPES
from tests.prune.tiny_lm import batches, tiny
from tests.small_lm import drawn_model


@pytest.mark.parametrize("sparsity", [0.0, 0.37, 0.9, 0.999])
@pytest.mark.parametrize("n_batches", [3, 1])
def test_the_weights_of_positions_that_stay_are_worth_most(sparsity: float, n_batches: int) -> None:
    model = tiny()
    assert model.positions is not None
    used = batches()[:n_batches]
    tokens = sum(one.n_targets for one in used)
    kept = positions_mask(model, sparsity, batches(), tokens)
    assert kept.shape == (16, 16)
    assert int((~kept).sum()) == round(sparsity * kept.numel())
    lengths = [int((row != IGNORED).sum()) for one in used for row in one.targets]
    assert max(lengths) < 10  # the rest of the positions is never read
    worth = []
    for position, row in enumerate(model.positions.tolist()):
        read = 1 + sum(length > position for length in lengths)
        worth += [weight**2 * read for weight in row]
    stays = sorted(range(len(worth)), key=lambda place: worth[place])[int((~kept).sum()) :]
    assert kept.flatten().nonzero().flatten().tolist() == sorted(stays)


def test_the_model_is_left_as_it_was() -> None:
    model = tiny().train()
    before = copy.deepcopy(model.state_dict())
    positions_mask(model, 0.5, batches(), 10**9)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_an_lm_without_learned_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 0: the LM learned no positions"):
        positions_mask(drawn_model(SHAPES["llama"]), 0.5, batches(), 100)
