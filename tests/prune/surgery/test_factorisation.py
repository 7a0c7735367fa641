"""Factorisations: the whole matrix, and the best of every rank."""

from __future__ import annotations

import pytest
import torch

from asrprune.prune.statistics import MatrixStatistics
from asrprune.prune.surgery.factorisation import FACTORISATIONS, plain_svd


def random_statistics(out: int, inp: int, seed: int) -> MatrixStatistics:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(200, inp, generator=generator) @ torch.randn(inp, inp, generator=generator)
    g = torch.randn(200, out, generator=generator) @ torch.randn(out, out, generator=generator)
    return MatrixStatistics(200, gram=x.T @ x / 200, output_gram=g.T @ g / 200)


@pytest.mark.parametrize("size", [(6, 10), (10, 6), (7, 7), (1, 5), (5, 1)])
@pytest.mark.parametrize("name", FACTORISATIONS)
def test_all_components_together_are_the_matrix(name: str, size: tuple[int, int]) -> None:
    weight = torch.randn(size, generator=torch.Generator().manual_seed(0))
    for values in (weight, torch.zeros(size), torch.ones(size)):
        a, b = FACTORISATIONS[name][0](values, random_statistics(*size, seed=1))
        assert a.shape[1] == b.shape[0] == min(size)
        assert torch.allclose(a @ b, values, atol=1e-4)


def weighted_error(
    weight: torch.Tensor, near: torch.Tensor, outputs: torch.Tensor, inputs: torch.Tensor
) -> float:
    lost = (weight - near).double()
    return float((outputs @ lost @ inputs @ lost.T).trace())


@pytest.mark.parametrize("size", [(6, 10), (10, 6)])
@pytest.mark.parametrize("name", FACTORISATIONS)
def test_truncation_is_optimal(name: str, size: tuple[int, int]) -> None:
    """Against the whitened SVD's error, which Eckart and Young give, and random alternatives."""
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(size, generator=generator)
    found = random_statistics(*size, seed=2)
    a, b = FACTORISATIONS[name][0](weight, found)
    outputs, inputs = torch.eye(size[0]).double(), torch.eye(size[1]).double()
    if name in ("activation-aware", "two-sided"):
        inputs = found.need("gram").double()
    if name == "two-sided":
        outputs = found.need("output_gram").double()
        outputs = outputs + outputs.diagonal().mean() * torch.eye(len(outputs)).double()
    if name == "fisher-weighted":
        outputs = torch.diag(found.need("output_gram").double().diagonal())
    left, right = torch.linalg.cholesky(outputs).T, torch.linalg.cholesky(inputs)
    values = torch.linalg.svdvals(left @ weight.double() @ right)
    for rank in (1, 3, 5):
        near = a[:, :rank] @ b[:rank]
        error = weighted_error(weight, near, outputs, inputs)
        assert error == pytest.approx(float(values[rank:].square().sum()), rel=2e-3)
        for _ in range(20):
            noise = 0.1 * torch.randn(size[0], rank, generator=generator)
            other = (a[:, :rank] + noise) @ b[:rank]
            assert weighted_error(weight, other, outputs, inputs) >= error
    plain_a, plain_b = plain_svd(weight)
    plain = weighted_error(weight, plain_a[:, :3] @ plain_b[:3], outputs, inputs)
    assert plain >= weighted_error(weight, a[:, :3] @ b[:3], outputs, inputs) * (1 - 1e-6)


@pytest.mark.parametrize("size", [(6, 400), (400, 6)])
def test_a_direction_that_holds_nearly_all_is_factored_too(size: tuple[int, int]) -> None:
    """Products of large LMs in float32: rounding leaves eigenvalues below 0, beyond the damping."""
    found = random_statistics(*size, seed=3)
    grams = []
    for gram in (found.need("gram"), found.need("output_gram")):
        spike = torch.ones(len(gram))
        spike[::2] = -1
        grams.append(1e6 * torch.outer(spike, spike) - 3e2 * torch.eye(len(gram)))
    assert min(float(torch.linalg.eigvalsh(gram.double())[0]) for gram in grams) < -100
    weight = torch.randn(size, generator=torch.Generator().manual_seed(0))
    statistics = MatrixStatistics(200, gram=grams[0], output_gram=grams[1])
    a, b = FACTORISATIONS["two-sided"][0](weight, statistics)
    assert torch.allclose(a @ b, weight, atol=1e-3)
