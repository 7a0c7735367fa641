"""Products of two matrices: how they are balanced, and how they are written by their own rows."""

from __future__ import annotations

import torch
from torch import Tensor


def balance(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The same components with ``||a_i|| = ||b_i||``: both factors then train at one rate.

    A [out, r], B [r, in]. A component with a zero factor is all zero on both sides.
    """
    a_norm, b_norm = a.double().norm(dim=0), b.double().norm(dim=1)  # [r]
    size = (a_norm * b_norm).sqrt()
    a_scale = torch.where(a_norm > 0, size / a_norm.clamp(min=1e-300), torch.zeros_like(size))
    b_scale = torch.where(b_norm > 0, size / b_norm.clamp(min=1e-300), torch.zeros_like(size))
    return (a.double() * a_scale).to(a.dtype), (b.double() * b_scale[:, None]).to(b.dtype)


def interpolative(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the product ``W = a b`` that give all others: ``(rows, combinations, order)``.

    ``rows`` [k, in] are k rows of W, ``combinations`` [out - k, k] make the other rows from them,
    and row i of W is row ``order[i]`` of ``[rows; combinations rows]``. Rows are picked one by
    one, each the one farthest from the span of those before (of equal ones the first), which
    keeps the combinations small. Computed in float64 on the CPU.

    Source: QR with column pivoting (Businger and Golub 1965) on W^T; the form is the
    interpolative decomposition (Cheng et al. 2005, SIAM J. Sci. Comput. 26, section 3).
    """
    left, right = a.double().cpu(), b.double().cpu()
    _, triangle = torch.linalg.qr(right.T)  # b = triangle^T q^T, q with orthonormal columns
    coordinates = left @ triangle.T  # [out, k]: the rows of W in the basis q
    picked = _farthest_rows(coordinates)
    others = torch.ones(len(left), dtype=torch.bool)
    others[picked] = False
    chosen = coordinates[picked]
    combinations = torch.linalg.lstsq(chosen.T, coordinates[others].T, driver="gelsd").solution.T
    order = torch.empty(len(left), dtype=torch.int64)
    order[torch.cat([picked, others.nonzero().flatten()])] = torch.arange(len(left))
    rows = (left[picked] @ right).to(a.device, a.dtype).contiguous()
    return rows, combinations.to(a.device, a.dtype).contiguous(), order.to(a.device)


def _farthest_rows(rows: Tensor) -> Tensor:
    """Indices [k] of k rows of [n, k], each farthest from the span of those before it."""
    left = rows.clone()
    picked: list[int] = []
    for _ in range(rows.shape[1]):
        distances = left.square().sum(1)
        distances[picked] = -1.0
        picked.append(int(distances.argmax()))
        direction = left[picked[-1]] / left[picked[-1]].norm().clamp(min=1e-300)
        left = left - torch.outer(left @ direction, direction)
    return torch.tensor(picked, dtype=torch.int64)
