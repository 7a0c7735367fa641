"""A matrix in each of its stored forms, against what it stands for."""

from __future__ import annotations

from typing import Optional

import pytest
import torch
from torch import Tensor

from asrprune.lm.model.factors import balance
from asrprune.lm.model.matrices import DenseLinear, InterpolativeLinear, LowRankLinear, Matrix

OUT, IN, RANK = 8, 6, 2
FORMS = ("dense", "low-rank", "interpolative")


def drawn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def made(form: str, bias: bool = True) -> Matrix:
    a, b = drawn(OUT, RANK), drawn(RANK, IN, seed=1)
    shift: Optional[Tensor] = drawn(OUT, seed=2) if bias else None
    if form == "dense":
        return DenseLinear(a @ b, shift)
    make = LowRankLinear if form == "low-rank" else InterpolativeLinear
    return make.from_factors(a, b, shift)


def same(matrix: Matrix, weight: Tensor, bias: Optional[Tensor]) -> None:
    x = drawn(5, weight.shape[1], seed=3)
    expected = x @ weight.T if bias is None else x @ weight.T + bias
    torch.testing.assert_close(matrix(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(matrix.product(), weight, rtol=1e-4, atol=1e-5)
    assert (matrix.out_features, matrix.in_features) == weight.shape
    assert matrix.weights == sum(part.numel() for part in matrix.parts.values())
    assert (matrix.bias is None) == (bias is None)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_kept_is_what_it_was(form: str, bias: bool) -> None:
    whole = made(form, bias)
    weight = whole.product().detach()
    shift = None if whole.bias is None else whole.bias.detach()
    same(whole, weight, shift)
    kept = torch.tensor([0, 3, 4, 5])
    same(whole.keep_outputs(kept), weight[kept], None if shift is None else shift[kept])
    same(whole.keep_inputs(kept), weight[:, kept], shift)
    left, right = drawn(3, OUT, seed=4), drawn(IN, 7, seed=5)
    narrow = drawn(3, seed=6) if bias else None
    mapped = whole.mapped(left.double(), right.double(), narrow)
    same(mapped, left @ weight @ right, narrow)


@pytest.mark.parametrize("form", FORMS)
def test_costs_are_what_leaves(form: str) -> None:
    whole = made(form)
    fewer, narrower = torch.arange(OUT - 1), torch.arange(IN - 1)
    assert whole.weights - whole.keep_outputs(fewer).weights == whole.output_cost
    assert whole.weights - whole.keep_inputs(narrower).weights == whole.input_cost
    assert whole.size_with(IN, OUT) == whole.weights
    assert whole.size_with(IN - 1, OUT) == whole.keep_inputs(narrower).weights
    assert whole.size_with(2, 2) == 4  # no form takes more than the dense one


def test_balanced_factors_have_equal_norms_and_the_same_product() -> None:
    a, b = drawn(OUT, 3) * torch.tensor([1e3, 1.0, 1e-3]), drawn(3, IN, seed=1)
    b[1] = 0.0
    left, right = balance(a, b)
    torch.testing.assert_close(left @ right, a @ b, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1))
    assert not left[:, 1].any()


def test_no_matrix_shares_memory_with_what_it_was_made_of() -> None:
    whole = made("dense")
    part = whole.keep_outputs(torch.arange(OUT))
    with torch.no_grad():
        whole.parts["weight"].zero_()
    assert part.product().any()
