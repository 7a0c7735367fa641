"""Prunable groups: which parameter they cut, and what stands before and behind it."""

from __future__ import annotations

import pytest
import torch

from asrprune.lm.model.matrices import DenseLinear, InterpolativeLinear, LowRankLinear, Matrix
from asrprune.lm.model.shapes import Place
from asrprune.prune.groups import Group, tile_sum

OUT, IN, RANK = 6, 8, 3


def matrix(form: str) -> Matrix:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(OUT, RANK, generator=generator)
    b = torch.randn(RANK, IN, generator=generator)
    bias = torch.randn(OUT, generator=generator)
    if form == "dense":
        return DenseLinear(torch.randn(OUT, IN, generator=generator), bias)
    return (LowRankLinear if form == "low-rank" else InterpolativeLinear).from_factors(a, b, bias)


PARTS = [("dense", "weight"), ("low-rank", "A"), ("low-rank", "B"), ("interpolative", "B")]


@pytest.mark.parametrize(("form", "part"), PARTS)
def test_gradients_are_products_of_what_stands_before_and_behind(form: str, part: str) -> None:
    """dL/dM is the sum over tokens of the gradient at M's output times M's input."""
    linear = matrix(form)
    group = Group(Place(2, "ffn.up"), linear, part, 1, 1, cost=1)
    x = torch.randn(5, IN, generator=torch.Generator().manual_seed(1))
    y = linear(x)
    slopes = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    (y * slopes).sum().backward()
    expected = group.output_gradient(slopes).T @ group.features(x)
    assert group.matrix.grad is not None
    torch.testing.assert_close(expected, group.matrix.grad, rtol=1e-4, atol=1e-5)
    assert group.parameter == f"2.ffn.up.{part}"


def test_tiles_are_summed_where_they_stand() -> None:
    values = torch.arange(24.0).view(4, 6)
    for rows, columns in ((1, 1), (2, 1), (1, 3), (4, 1), (2, 3), (4, 6)):
        found = tile_sum(values, rows, columns)
        assert found.shape == (4 // rows, 6 // columns)
        for row in range(4 // rows):
            for column in range(6 // columns):
                tile = values[row * rows : (row + 1) * rows, column * columns :][:, :columns]
                assert found[row, column] == tile.sum()


@pytest.mark.parametrize(("rows", "columns"), [(4, 1), (1, 3), (0, 1), (7, 1), (1, -1)])
def test_tiles_that_are_not_whole_are_refused(rows: int, columns: int) -> None:
    with pytest.raises(ValueError, match=r"2\.ffn\.up: a 6 x 8 matrix is not made of whole"):
        Group(Place(2, "ffn.up"), matrix("dense"), "weight", rows, columns, cost=1)
