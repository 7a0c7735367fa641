"""The residual stream in other coordinates, against what the LM computed before."""

from __future__ import annotations

import pytest
import torch

from asrprune.prune.surgery.residual import Cut, fold_norms, ones_apart, rewrite
from tests.prune.streams import SHAPES, D, logits, random_directions, random_model


def test_ones_apart_is_an_orthonormal_basis() -> None:
    for size in (1, 2, 3, 16):
        basis = ones_apart(size)
        assert basis.shape == (size, size - 1)
        assert torch.allclose(basis.T @ basis, torch.eye(size - 1, dtype=torch.float64))
        assert torch.allclose(basis.sum(0), basis.new_zeros(size - 1))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("mean_free", [False, True])
def test_the_same_lm_in_any_basis(name: str, mean_free: bool) -> None:
    model = random_model(SHAPES[name])
    before = logits(model)
    fold_norms(model)
    torch.testing.assert_close(logits(model), before)
    basis = random_directions(D)
    rewrite(model, Cut(basis if mean_free else basis @ ones_apart(D).T), mean_free)
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)
    assert model.shape.d_model == (D - 1 if mean_free else D)
