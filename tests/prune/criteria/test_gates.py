"""Gates: the l1 path on models whose answer is known."""

from __future__ import annotations

import copy
import functools
import importlib
import math

import pytest
import torch

from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.distributed import ProcessGroup
from asrprune.lm.training.loss import next_token_loss
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.criteria.criterion import Criterion, Sample
from asrprune.prune.criteria.gates import gates
from asrprune.prune.groups import Group
from tests.prune.tiny_lm import batches, group_of, loss_of, tiny

SAMPLE = Sample(lambda model: batches(), 10**9, ProcessGroup())


@functools.cache
def learned() -> TransformerLM:
    """A model near a minimum of its loss, as those are that get pruned."""
    model = tiny()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        sum(next_token_loss(model, batch) for batch in batches()).backward()
        optimizer.step()
    return model


def trained() -> TransformerLM:
    return copy.deepcopy(learned())


def neurons(model: TransformerLM) -> Group:
    return group_of(model, "ffn.down", rows=16)


def growth(model: TransformerLM, units: torch.Tensor) -> float:
    """How much the loss grows without these neurons."""
    smaller = copy.deepcopy(model)
    with torch.no_grad():
        smaller.blocks[0].linear("ffn.down").weight[:, units] = 0
    return loss_of(smaller) - loss_of(model)


def test_what_closes_first_can_go_at_little_loss() -> None:
    model = trained()
    with torch.no_grad():
        model.blocks[0].linear("ffn.down").weight[:, 5] = 0
    (scores,) = gates(model, [neurons(model)], SAMPLE)
    every = torch.arange(scores.numel())
    alone = torch.tensor([growth(model, unit) for unit in every])
    order = scores.flatten().argsort()
    assert 5 in order[:32]
    for count in (16, 32, 48):
        lost = growth(model, order[:count])
        arbitrary = growth(model, every[:count])
        assert lost < 0.4 * arbitrary
        assert lost < growth(model, alone.argsort()[:count]) + 0.3 * arbitrary


def test_the_penalty_is_counted_per_parameter() -> None:
    """A cost that all tiles share moves all penalties and no score."""
    model = trained()
    one = neurons(model)
    dear = Group(one.place, one.linear, one.part, one.rows, one.columns, 100 * one.cost)
    (cheap,), (other,) = (gates(model, [group], SAMPLE) for group in (one, dear))
    torch.testing.assert_close(other, cheap, rtol=0.1, atol=0)


def test_a_gate_that_the_loss_wants_back_opens_again_and_counts_when_it_closes_last() -> None:
    model = trained()
    group = neurons(model)
    path = importlib.import_module("asrprune.prune.criteria.gates")._Path(
        group, torch.ones(1, group.matrix.shape[1]), 1
    )
    weights = group.matrix.detach().clone()

    def step(slope: float, penalty: float) -> float:
        group.matrix.grad = slope * weights / weights.square().sum(0, keepdim=True)
        path.step(penalty)
        return float(path.gate[0, 0])

    opened = [step(0.0, 1e3) for _ in range(5)]
    assert opened == sorted(opened, reverse=True)
    assert opened[-1] == 0
    first = float(path.scores()[0, 0])
    assert first == pytest.approx(1e3)
    assert max(step(-1e6, 2e3) for _ in range(4)) == 1
    while step(0.0, 5e4) > 0:
        pass
    assert 1e4 < float(path.scores()[0, 0]) <= 5e4
    path.write()
    assert not group.matrix.any()


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calls = []

    def failing(*args: object) -> torch.Tensor:
        calls.append(args)
        if len(calls) > 3:
            raise RuntimeError("no memory")
        return model.embedding.weight.sum() * 0 + model.blocks[0].linear("ffn.down").weight.sum()

    if fails:
        module = importlib.import_module("asrprune.prune.criteria.gates")
        monkeypatch.setattr(module, "next_token_loss", failing)
        with pytest.raises(RuntimeError, match="no memory"):
            gates(model, [neurons(model)], SAMPLE)
        assert len(calls) == 4
    else:
        gates(model, [neurons(model)], SAMPLE)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_without_a_loss_that_depends_on_them_all_tiles_are_alike() -> None:
    model = tiny()
    with torch.no_grad():
        model.blocks[0].linear("ffn.down").weight.zero_()
    (scores,) = gates(model, [neurons(model)], SAMPLE)
    assert scores.shape == (1, 64)
    assert not scores.any()
    assert gates(model, [], SAMPLE) == []


def test_penalties_between_two_steps_are_told_apart() -> None:
    model = trained()
    (scores,) = gates(model, [neurons(model)], SAMPLE)
    values = scores.flatten().tolist()
    assert len(set(values)) > 0.9 * len(values)
    assert all(math.isfinite(value) and value > 0 for value in values)


def test_a_criterion_has_one_way_to_score() -> None:
    for one in CRITERIA.values():
        assert (one.score is None) != (one.together is None)
    with pytest.raises(ValueError, match="either score or together"):
        Criterion(None, frozenset(), "")
