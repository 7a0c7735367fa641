"""Statistics that are streamed by hooks."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from asrprune.prune.criteria import CRITERIA
from asrprune.prune.groups import tile_sum
from asrprune.prune.methods import METHODS, Options
from asrprune.prune.methods.method import prunable_parameters
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.scorer import DataScorer
from asrprune.prune.statistics import STATISTICS, collect
from tests.prune.small_models import DATA, FREE, small_model
from tests.prune.tiny_lm import all_statistics, batches, group_of, tiny


def test_streamed_statistics_equal_those_of_all_tokens_at_once() -> None:
    model = tiny()
    group = group_of(model, "ffn.up", rows=4)
    found = all_statistics(model, group)
    inputs, gradients, squares, tiles = [], [], [], []
    per_batch = []
    for batch in batches():
        seen = []
        handle = group.linear.register_forward_hook(
            lambda m, i, o, seen=seen: seen.extend([i[0], o])
        )
        hidden, _ = model(batch.tokens)
        handle.remove()
        seen[1].retain_grad()
        loss = functional.cross_entropy(
            model.logits(hidden).flatten(0, 1), batch.targets.flatten(), reduction="sum"
        )
        model.zero_grad()
        loss.backward()
        mask = batch.targets != -100
        inputs.append(seen[0][mask].detach())
        gradients.append(seen[1].grad[mask])
        per_batch.append(group.matrix.grad.clone())
        squares.append(group.matrix.grad.square())
        tiles.append(tile_sum(group.matrix.grad * group.matrix.detach(), 4, 1).square())
    x, g = torch.cat(inputs), torch.cat(gradients)
    n = len(x)
    assert found.tokens == n == sum(batch.n_targets for batch in batches())
    for name, expected in {
        "gram": x.T @ x / n,
        "input_squared": x.square().mean(0),
        "output_gram": g.T @ g / n,
        "gradient": sum(per_batch) / n,
        "gradient_squared": sum(squares) / n,
        "tile_gradient_squared": sum(tiles) / n,
        "movement": -group.matrix.detach() * sum(per_batch) / n,
    }.items():
        assert torch.allclose(found.need(name), expected, rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("criterion", CRITERIA)
def test_statistics_leave_the_model_as_it_was(criterion: str) -> None:
    model = small_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan = Plan(criterion=criterion, method="structured", statistics_tokens=60)
    total = sum(prunable_parameters(model, FREE.matrices).values())
    METHODS["structured"].apply(model, total, DataScorer(plan, DATA, 0), Options(), {})
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_statistics_of_activations_made_again_are_the_same() -> None:
    model = tiny()
    groups = [group_of(model, name) for name in ("attn.q", "ffn.down")]
    kept = collect(model, groups, batches(), STATISTICS, 10**9)
    model.checkpoint_activations = True
    again = collect(model, groups, batches(), STATISTICS, 10**9)
    for one, other in zip(kept, again, strict=True):
        for name in STATISTICS:
            torch.testing.assert_close(other.need(name), one.need(name))
