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
OUTPUT_DAMPING = 1.0
"""The same for the Fisher matrix of the outputs: see MatrixStatistics.output_fisher."""


def plain_svd(weight: Tensor, statistics: Optional[MatrixStatistics] = None) -> Factors:
    """``W = U S V^T``: the first k components are the nearest matrix of rank k (Frobenius)."""
    return _components(weight, None, None)


def fisher_weighted(weight: Tensor, statistics: Optional[MatrixStatistics]) -> Factors:
    """The first k components lose least of ``sum_i E[g_i^2] ||row i of D||^2``, D what is left out.

    g is the loss gradient at the output: rows count by how much the loss feels their output.

    Source: Hsu et al. 2022 (FWSVD, arXiv 2207.00112), eq. 6, which sums the squared gradients of
    a row's weights; these are E[g_i^2] E||x||^2 where output gradient and input are independent.
    """
    squares = damped(_statistics(statistics).need("output_gram").double()).diagonal()
    return _components(weight, torch.diag(squares), None)


def activation_aware(weight: Tensor, statistics: Optional[MatrixStatistics]) -> Factors:
    """The first k components lose least of the output: ``E||W x - A_k B_k x||^2`` is minimal.

    Source: Chen et al. 2021 (DRONE, NeurIPS); Wang et al. 2024 (SVD-LLM, arXiv 2403.07378), 3.1.
    """
    return _components(weight, None, damped(_statistics(statistics).need("gram").double()))


def two_sided(weight: Tensor, statistics: Optional[MatrixStatistics]) -> Factors:
    """The first k components lose least of ``1/2 tr(F D G D^T)``, D what is left out: nats.

    G = E[x x^T] of the input, F = E[g g^T] of the loss gradient at the output, damped by its mean
    (OUTPUT_DAMPING). The loss of component i is 1/2 s_i^2 in one unit for all matrices.

    Source: the K-FAC approximation (arXiv 1503.05671) of the second-order loss, minimised by
    Eckart and Young 1936 in the whitened coordinates.
    """
    known = _statistics(statistics)
    gram = damped(known.need("gram").double())
    return _components(weight, damped(known.output_fisher(OUTPUT_DAMPING).double()), gram)


def _components(weight: Tensor, fisher: Optional[Tensor], gram: Optional[Tensor]) -> Factors:
    """Components of W by falling ``s_i^2``, of which the first k lose least of ``tr(F D G D^T)``.

    F [out, out] and G [in, in] are positive definite, None: the identity. With F = L L^T and
    G = R R^T by Cholesky, U S V^T = L^T W R gives A = L^-T U S and B = V^T R^-1. One
    eigendecomposition on the smaller side of W is enough: U is that of L^T W G W^T L, and
    V^T R^-1 = S^-1 U^T L^T W; or V is that of R^T W^T F W R, and L^-T U S = W R V. So A B = W
    also where rounding leaves U or V inexact, as it does for values below 1e-8 of the largest.
    """
    w = weight.double()
    out_features, in_features = w.shape
    if out_features <= in_features:
        upper = None if fisher is None else _root(fisher).T
        rows = _times(upper, w)
        values, vectors = _falling(rows @ _times(gram, rows.T))
        scales = values.clamp(min=_least(values)).sqrt()
        a = vectors * scales
        if upper is not None:
            a = torch.linalg.solve_triangular(upper, a, upper=True)
        return _as(weight, a, vectors.T @ rows / scales[:, None])
    root = None if gram is None else _root(gram)
    columns = w if root is None else w @ root
    _, vectors = _falling(columns.T @ _times(fisher, columns))
    b = vectors.T
    if root is not None:
        b = torch.linalg.solve_triangular(root, b, upper=False, left=False)
    return _as(weight, columns @ vectors, b)


def _times(matrix: Optional[Tensor], other: Tensor) -> Tensor:
    return other if matrix is None else matrix @ other


def _root(matrix: Tensor) -> Tensor:
    """The Cholesky factor. Where one direction holds nearly all of a matrix that was summed in
    float32, rounding may be more than DAMPING: then it is damped ten times more, and again."""
    damping = DAMPING * matrix.diagonal().mean()
    for _ in range(4):
        root: Tensor
        root, failed = torch.linalg.cholesky_ex(matrix)
        if not failed:
            return root
        damping = 10 * damping
        matrix = matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    root = torch.linalg.cholesky(matrix)
    return root


def _falling(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues of a symmetric matrix from the largest on, and their vectors as columns."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return values.flip(0), vectors.flip(1)


def _least(values: Tensor) -> float:
    """What no eigenvalue is taken to be below: the largest's rounding, or 1 where all are 0."""
    largest = float(values[0]) if len(values) else 0.0
    return largest * 1e-16 if largest > 0 else 1.0


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


def damped(gram: Tensor) -> Tensor:
    """The second-moment matrix plus ``DAMPING`` times its mean diagonal on the diagonal."""
    mean = gram.diagonal().mean() if gram.numel() else gram.new_zeros(())
    floor = mean if mean > 0 else torch.ones_like(mean)  # an all-zero input: any basis will do
    return gram + DAMPING * floor * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
