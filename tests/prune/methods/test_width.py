"""Width: d_model is reduced."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.methods import METHODS, Options
from asrprune.prune.methods.method import prunable_parameters
from asrprune.prune.methods.width import _cut, _scores
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.scorer import DataScorer
from asrprune.prune.surgery.residual import Cut, fold_norms, ones_apart, rewrite
from tests.prune.streams import SHAPES, D, V, data, logits, random_directions, random_model


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("factorisation", ["svd", "two-sided"])
def test_a_stream_that_fills_no_more_is_cut_without_loss(name: str, factorisation: str) -> None:
    """A model of width 16 widened to 24 by hand: pruning finds the 16 and loses nothing."""
    model = random_model(SHAPES[name])
    before = logits(model)
    fold_norms(model)
    wide = random_directions(24)[:, : D - 1]  # [24, 15]
    rewrite(model, Cut(ones_apart(D) @ wide.T), mean_free=False)
    torch.testing.assert_close(logits(model), before, rtol=1e-3, atol=1e-3)
    assert model.shape.d_model == 24
    total = sum(prunable_parameters(model, Options().matrices).values())
    plan = Plan(criterion="fisher", method="width", statistics_tokens=100)
    options = Options(factorisation=factorisation)
    keep = round(total * D / 24)
    METHODS["width"].apply(model, keep, DataScorer(plan, data(), 0), options, {})
    if total:
        assert model.shape.d_model == D
    torch.testing.assert_close(logits(model), before, rtol=1e-3, atol=1e-3)


def test_unequal_weights_of_the_last_norm_cost_little() -> None:
    """The axes are chosen such that they stay nearly diagonal; in others they are averaged away."""
    size = 96

    def turned(choose: Callable[[TransformerLM, Tensor], Cut]) -> float:
        shape = ModelShape.uniform(V, size, 1, 2, max_positions=12)
        model = random_model(shape, equal_last_norm=False)
        before = logits(model)
        fold_norms(model)
        rewrite(model, choose(model, random_directions(size)), mean_free=False)
        return float((logits(model) - before).std() / before.std())

    change = turned(lambda model, basis: _cut(model, basis, torch.arange(size - 1), {}))
    assert change < 0.1
    assert change < 0.5 * turned(lambda model, basis: Cut(basis @ ones_apart(size).T))


def test_what_is_gone_is_read_by_least_squares() -> None:
    """No other matrix makes what a norm put out from the kept coordinates with less error."""
    model = random_model(SHAPES["dense"])
    samples = torch.randn(400, D, dtype=torch.float64) @ torch.randn(D, D, dtype=torch.float64)
    samples = samples - samples.mean(1, keepdim=True)
    gram = samples.T @ samples / len(samples)
    directions = random_directions(D)
    kept = torch.tensor([0, 3, 4, 9])
    cut = _cut(model, directions, kept, {(0, "norm_attn"): gram})
    coordinates = samples @ cut.basis  # [N, 5]
    assert coordinates.sum(1).abs().max() < 1e-9

    def error(reader: Tensor) -> float:
        return float((samples - coordinates @ reader.T).square().sum())

    reader = cut.readers[0, "norm_attn"]
    best = torch.linalg.lstsq(coordinates, samples, driver="gelsd").solution.T
    assert error(reader) == pytest.approx(error(best), rel=1e-3)
    assert error(reader) < error(cut.basis)
    share = coordinates.square().sum() / samples.square().sum()
    assert cut.kept[0, "norm_attn"] == pytest.approx(float(share))


def test_the_width_nearest_to_the_size_is_taken() -> None:
    for multiple, sparsity, expected in ((4, 0.5, 8), (4, 0.4, 8), (4, 0.3, 12), (3, 0.5, 9)):
        model = random_model(SHAPES["dense"]).float()
        total = sum(prunable_parameters(model, Options().matrices).values())
        plan = Plan(criterion="magnitude", method="width", statistics_tokens=100)
        options = Options(multiple_of=multiple)
        keep = total - round(sparsity * total)
        METHODS["width"].apply(model, keep, DataScorer(plan, data(), 0), options, {})
        assert model.shape.d_model == expected
        assert model.embedding.weight.shape == (V, expected)
        assert model.positions.shape == (12, expected)


def test_the_best_directions_stay() -> None:
    """By the criterion: directions that nothing reads or writes go first."""
    model = random_model(SHAPES["dense"])
    fold_norms(model)
    directions = random_directions(D)
    silent = directions[:, [2, 5, 11]]
    with torch.no_grad():
        for place, linear in model.linears():
            if place.name in ("attn.o", "ffn.down"):
                linear.weight.sub_(silent @ (silent.T @ linear.weight))
            else:
                linear.weight.sub_((linear.weight @ silent) @ silent.T)
    for criterion in ("magnitude", "fisher", "kfac", "activation"):
        plan = Plan(criterion=criterion, method="width", statistics_tokens=100)
        scores = _scores(model.float(), directions, DataScorer(plan, data(), 0))
        assert set(scores.argsort()[:3].tolist()) == {2, 5, 11}, criterion


def test_the_criterion_chooses_what_goes() -> None:
    results = []
    for criterion in ("fisher", "random"):
        model = random_model(SHAPES["dense"]).float()
        total = sum(prunable_parameters(model, Options().matrices).values())
        plan = Plan(criterion=criterion, method="width", statistics_tokens=100)
        METHODS["width"].apply(model, total // 2, DataScorer(plan, data(), 0), Options(), {})
        results.append(logits(model))
    assert not torch.allclose(results[0], results[1], atol=1e-2)


def test_masked_models_and_sizes_out_of_reach_are_refused() -> None:
    model = random_model(SHAPES["dense"]).float()
    plan = Plan(criterion="magnitude", method="width")
    scorer = DataScorer(plan, data(), 0)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="masked"):
        METHODS["width"].apply(model, 10, scorer, Options(), {"0.attn.q": torch.ones(1)})
    with pytest.raises(ValueError, match="the least that this method can keep"):
        METHODS["width"].apply(model, 10, scorer, Options(), {})
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_only_what_may_be_pruned_counts() -> None:
    model = random_model(SHAPES["dense"]).float()
    options = replace(Options(), matrices=("ffn.up",), multiple_of=4)
    total = sum(prunable_parameters(model, options.matrices).values())
    plan = Plan(criterion="magnitude", method="width", statistics_tokens=100)
    METHODS["width"].apply(model, total // 4, DataScorer(plan, data(), 0), options, {})
    assert model.shape.d_model == 4
