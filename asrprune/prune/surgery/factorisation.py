"""FACTORISATIONS: a matrix W as a sum of rank-one components, best first."""

from __future__ import annotations

from typing import Callable, Optional

import torch
from torch import Tensor

from asrprune.prune.statistics import MatrixStatistics

Factors = tuple[Tensor, Tensor]
"""A [out, r] and B [r, in] with A B = W; component i is column i of A times row i of B."""

Factorisation = Callable[[Tensor, Optional[MatrixStatistics]], Factors]

DAMPING = 1e-4
"""Times the mean of a second-moment matrix's diagonal, added to it: few tokens leave directions
unseen, and those may matter to a sentence yet to come."""


def plain_svd(weight: Tensor, statistics: Optional[MatrixStatistics] = None) -> Factors:
    """``W = U S V^T``: the first k components are the nearest matrix of rank k (Frobenius)."""
    left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
    return _as(weight, left * values, right)


def fisher_weighted(weight: Tensor, statistics: Optional[MatrixStatistics]) -> Factors:
    """The first k components lose least of ``sum_i E[g_i^2] ||row i of D||^2``, D what is left out.

    g is the loss gradient at the output: rows count by how much the loss feels their output.
    With R the diagonal matrix of the roots: U S V^T = R W, A = R^-1 U S, B = V^T.

    Source: Hsu et al. 2022 (FWSVD, arXiv 2207.00112), eq. 6, which sums the squared gradients of
    a row's weights; these are E[g_i^2] E||x||^2 where output gradient and input are independent.
    """
    squares = damped(_statistics(statistics).need("output_gram").double()).diagonal()
    rows = squares.sqrt()[:, None]  # [out, 1]
    left, values, right = torch.linalg.svd(rows * weight.double(), full_matrices=False)
    return _as(weight, left * values / rows, right)


def activation_aware(weight: Tensor, statistics: Optional[MatrixStatistics]) -> Factors:
    """The first k components lose least of the output: ``E||W x - A_k B_k x||^2`` is minimal.

    With C = W G W^T, G = E[x x^T]: A = eigenvectors of C by falling eigenvalue, B = A^T W. One
    eigendecomposition gives every rank, nested; the error at rank k is the sum of the
    eigenvalues left out. Equal to the SVD after whitening with the Cholesky factor of G, without
    an inverse. When W has more outputs than inputs the same subspace comes from G^1/2 W^T W G^1/2.

    Source: Chen et al. 2021 (DRONE, NeurIPS); Wang et al. 2024 (SVD-LLM, arXiv 2403.07378), 3.1.
    """
    w = weight.double()
    gram = damped(_statistics(statistics).need("gram").double())
    out_features, in_features = w.shape
    if out_features <= in_features:
        vectors = torch.linalg.eigh(_symmetric(w @ gram @ w.T)).eigenvectors.flip(1)  # [out, out]
        return _as(weight, vectors, vectors.T @ w)
    root = _square_root(gram)
    left, _, _ = torch.linalg.svd(w @ root, full_matrices=False)  # [out, in]
    return _as(weight, left, left.T @ w)


def two_sided(weight: Tensor, statistics: Optional[MatrixStatistics]) -> Factors:
    """The first k components lose least of ``1/2 tr(F D G D^T)``, D what is left out: nats.

    G = E[x x^T] of the input, F = E[g g^T] of the loss gradient at the output (F^1/2 and G^1/2
    below are symmetric square roots): U S V^T = F^1/2 W G^1/2; A = F^-1/2 U S, B = V^T G^-1/2.
    The loss of component i is 1/2 s_i^2 in one unit for all matrices.

    Source: the K-FAC approximation (arXiv 1503.05671) of the second-order loss, minimised by
    Eckart and Young 1936 in the whitened coordinates.
    """
    w = weight.double()
    known = _statistics(statistics)
    g_root, g_inverse = _root_and_inverse(damped(known.need("gram").double()))
    f_root, f_inverse = _root_and_inverse(damped(known.need("output_gram").double()))
    left, values, right = torch.linalg.svd(f_root @ w @ g_root, full_matrices=False)
    return _as(weight, f_inverse @ (left * values), right @ g_inverse)


FACTORISATIONS: dict[str, tuple[Factorisation, frozenset[str]]] = {
    "svd": (plain_svd, frozenset()),
    "fisher-weighted": (fisher_weighted, frozenset({"output_gram"})),
    "activation-aware": (activation_aware, frozenset({"gram"})),
    "two-sided": (two_sided, frozenset({"gram", "output_gram"})),
}
"""Name -> (function, statistics that it reads)."""


def _statistics(statistics: Optional[MatrixStatistics]) -> MatrixStatistics:
    if statistics is None:
        raise ValueError("statistics are None; this factorisation needs them")
    return statistics


def _as(weight: Tensor, a: Tensor, b: Tensor) -> Factors:
    return a.to(weight.dtype).contiguous(), b.to(weight.dtype).contiguous()


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.T) / 2


def damped(gram: Tensor) -> Tensor:
    """The second-moment matrix plus ``DAMPING`` times its mean diagonal on the diagonal."""
    mean = gram.diagonal().mean() if gram.numel() else gram.new_zeros(())
    floor = mean if mean > 0 else torch.ones_like(mean)  # an all-zero input: any basis will do
    return gram + DAMPING * floor * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)


def _square_root(gram: Tensor) -> Tensor:
    return _root_and_inverse(gram)[0]


def _root_and_inverse(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric square root and its inverse of a positive definite matrix."""
    values, vectors = torch.linalg.eigh(_symmetric(gram))
    roots = values.clamp(min=values.max() * 1e-12 if len(values) else 0.0).sqrt()
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T
