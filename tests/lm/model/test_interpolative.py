"""The interpolative form of a matrix: its own rows, and combinations of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrprune.lm.model.matrices import DenseLinear, InterpolativeLinear


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_the_pivoted_form_is_the_product(out: int, inp: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, min(out, inp)))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    a = torch.randn(out, rank, generator=generator)
    b = torch.randn(rank, inp, generator=generator)
    if data.draw(st.booleans()) and rank > 1:
        a[:, 0] = a[:, 1]  # a product of lower rank than its factors
    if data.draw(st.booleans()):
        a[0] = 0.0
    bias = torch.randn(out, generator=generator)
    made = InterpolativeLinear.from_factors(a, b, bias)
    x = torch.randn(5, inp, generator=generator)
    torch.testing.assert_close(made(x), x @ (a @ b).T + bias, atol=2e-5, rtol=1e-4)
    sizes = [p.numel() for name, p in made.named_parameters() if name != "bias"]
    if rank == min(out, inp):  # then it is no larger dense
        assert isinstance(made, DenseLinear)
        assert sum(sizes) == out * inp
    else:
        assert isinstance(made, InterpolativeLinear)
        assert sum(sizes) == rank * (out + inp - rank)
        torch.testing.assert_close(made.product(), a @ b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("rank", [3, 7])
def test_rows_and_columns_of_a_pivoted_matrix_can_leave(rank: int) -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(12, rank, generator=generator), torch.randn(rank, 10, generator=generator)
    bias = torch.randn(12, generator=generator)
    whole = InterpolativeLinear.from_factors(a, b, bias)
    assert isinstance(whole, InterpolativeLinear)
    kept = torch.tensor([0, 4, 5, 6, 9])  # fewer than rank 7: then dense
    fewer, narrower = whole.keep_outputs(kept), whole.keep_inputs(kept)
    assert isinstance(fewer, InterpolativeLinear if rank < 5 else DenseLinear)
    x = torch.randn(6, 10, generator=generator)
    torch.testing.assert_close(fewer(x), whole(x)[:, kept], atol=2e-5, rtol=1e-4)
    only = torch.zeros_like(x)
    only[:, kept] = x[:, kept]
    torch.testing.assert_close(narrower(x[:, kept]), whole(only), atol=2e-5, rtol=1e-4)


def test_pivots_keep_the_combinations_small_and_the_product_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(40, 12, generator=generator) * torch.logspace(0, -5, 12)
    b = torch.randn(12, 30, generator=generator)
    made = InterpolativeLinear.from_factors(a, b, torch.zeros(40))
    assert isinstance(made, InterpolativeLinear)
    assert made.C.abs().max() < 5.0
    assert (made.product() - a @ b).norm() < 1e-6 * (a @ b).norm()
