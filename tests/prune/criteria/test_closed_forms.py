"""Criteria against formulas that can be worked out by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrprune.lm.model.matrices import LowRankLinear
from asrprune.lm.model.shapes import Place
from asrprune.prune.groups import Group
from asrprune.prune.statistics import MatrixStatistics
from asrprune.prune.surgery.factorisation import FACTORISATIONS, plain_svd
from tests.prune.tiny_lm import all_statistics, group_of, loss_of, score, tiny


def test_taylor_is_the_slope_of_the_loss_towards_removal() -> None:
    model = tiny()
    for name, columns in (("ffn.down", 1), ("attn.o", 8)):
        group = group_of(model, name, rows=16, columns=columns)
        expected = score("taylor", group, all_statistics(model, group)).flatten()
        step = 1e-2  # so much to both sides: losses are rounded to float32
        for unit in (0, 1):
            losses = []
            for factor in (1 - step, 1 + step):
                scaled = copy.deepcopy(model)
                with torch.no_grad():
                    weight = scaled.blocks[0].linear(name).weight
                    weight[:, unit * columns : (unit + 1) * columns] *= factor
                losses.append(loss_of(scaled))
            slope = (losses[0] - losses[1]) / (2 * step)
            assert abs(slope) == pytest.approx(float(expected[unit]), rel=0.05, abs=5e-5)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_taylor_of_a_linear_loss_is_the_true_change(seed: int) -> None:
    """Loss = sum(C * W): removing a tile changes it by minus the sum of C * W over the tile."""
    generator = torch.Generator().manual_seed(seed)
    model = tiny()
    group = group_of(model, "ffn.down", rows=4, columns=2)
    slopes = torch.randn(group.matrix.shape, generator=generator)
    scores = score("taylor", group, MatrixStatistics(1, gradient=slopes))
    for row, column in ((0, 0), (3, 5), (1, 31)):
        without = group.matrix.detach().clone()
        without[4 * row : 4 * row + 4, 2 * column : 2 * column + 2] = 0
        change = float((slopes * (without - group.matrix.detach())).sum())
        assert abs(change) == pytest.approx(float(scores[row, column]), rel=1e-4, abs=1e-5)


def test_group_scores_are_sums_of_single_ones_where_the_formula_is_a_sum() -> None:
    model = tiny()
    single, grouped = group_of(model, "ffn.down"), group_of(model, "ffn.down", rows=16)
    found = all_statistics(model, single)
    for criterion in ("magnitude", "magnitude-l1", "fisher", "activation"):
        whole = score(criterion, single, found).sum(0, keepdim=True)
        assert torch.allclose(score(criterion, grouped, found), whole, rtol=1e-4), criterion


def test_where_no_gradient_is_weights_count_by_what_the_others_of_their_input_have() -> None:
    """An output behind a saturated softmax: neither criterion takes its weights to be free."""
    model = tiny()
    group = group_of(model, "attn.q")
    weight = group.matrix.detach()
    squares = torch.zeros_like(weight)
    squares[:4] = 8.0
    outputs = torch.diag(squares[:, 0])
    found = MatrixStatistics(
        1, gradient_squared=squares, output_gram=outputs, gram=torch.eye(weight.shape[1])
    )
    mean = 8.0 * 4 / len(weight)
    expected = 0.5 * weight.square() * (squares + 3 * mean)
    for criterion in ("fisher", "kfac"):
        torch.testing.assert_close(score(criterion, group, found), expected)


def test_kfac_of_a_tile_is_the_quadratic_form_of_the_whole_matrix() -> None:
    model = tiny()
    found = all_statistics(model, group_of(model, "attn.o"))
    undamped = found.need("output_gram")
    fisher = undamped + 3.0 * undamped.diagonal().mean() * torch.eye(16)
    for rows, columns in ((1, 1), (4, 1), (16, 1), (16, 8), (2, 4)):
        group = group_of(model, "attn.o", rows, columns)
        scores = score("kfac", group, found)
        for row, column in ((0, 0), (16 // rows - 1, 16 // columns - 1)):
            removed = torch.zeros_like(group.matrix)
            place = (
                slice(row * rows, (row + 1) * rows),
                slice(column * columns, (column + 1) * columns),
            )
            removed[place] = group.matrix.detach()[place]
            form = fisher @ removed @ found.need("gram") @ removed.T
            assert float(scores[row, column]) == pytest.approx(0.5 * float(form.trace()), rel=1e-3)


def test_magnitude_of_svd_components_is_the_squared_singular_value() -> None:
    model = tiny()
    weight = model.blocks[0].linear("ffn.up").weight.detach()
    a, b = plain_svd(weight)
    linear = LowRankLinear.from_factors(a, b, torch.zeros(64))
    group = Group(Place(0, "ffn.up"), linear, "A", 64, 1, 80, linear.B.detach().square().sum(1))
    scores = score("magnitude", group, MatrixStatistics()).flatten()
    assert torch.allclose(scores.sqrt(), torch.linalg.svdvals(weight), rtol=1e-4)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_normalised_magnitude_does_not_see_the_scale_of_a_matrix(scale: float) -> None:
    """Components of an SVD: s_i^2 over the mean square of a weight, which is sum s^2 / (out in)."""
    weight = scale * tiny().blocks[0].linear("ffn.up").weight.detach()
    a, b = plain_svd(weight)
    linear = LowRankLinear.from_factors(a, b, torch.zeros(64))
    group = Group(Place(0, "ffn.up"), linear, "A", 64, 1, 80, linear.B.detach().square().sum(1))
    scores = score("magnitude-normalised", group, MatrixStatistics()).flatten()
    expected = torch.linalg.svdvals(weight).square() / weight.square().mean()
    assert torch.allclose(scores, expected, rtol=1e-3, atol=1e-4)


def test_normalised_magnitude_of_zeros_is_zero() -> None:
    linear = LowRankLinear.from_factors(torch.zeros(4, 2), torch.zeros(2, 3), torch.zeros(4))
    group = Group(Place(0, "ffn.up"), linear, "A", 4, 1, 7)
    assert score("magnitude-normalised", group, MatrixStatistics()).tolist() == [[0.0, 0.0]]


def test_activation_score_of_its_components_is_the_eigenvalue() -> None:
    model = tiny()
    group = group_of(model, "ffn.down")
    found = all_statistics(model, group)
    a, b = FACTORISATIONS["activation-aware"][0](group.matrix.detach(), found)
    factored = copy.deepcopy(model)
    linear = LowRankLinear.from_factors(a, b, group.linear.bias)
    factored.put(Place(0, "ffn.down"), linear)
    component = Group(Place(0, "ffn.down"), linear, "A", 16, 1, 80)
    scores = score("activation", component, all_statistics(factored, component)).flatten()
    weight = group.matrix.detach()
    expected = torch.linalg.eigvalsh(weight @ found.need("gram") @ weight.T).flip(0)
    assert torch.allclose(scores, expected, rtol=1e-2, atol=1e-3 * float(expected.max()))
