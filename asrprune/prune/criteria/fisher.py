"""Second order with the Fisher matrix for the Hessian: diagonal, or as a Kronecker product."""

from __future__ import annotations

import torch
from torch import Tensor

from asrprune.prune.groups import Group
from asrprune.prune.statistics import MatrixStatistics

DAMPING = 3.0
"""Of the Fisher matrix of a matrix's outputs, times its mean. More serves single weights, less
low rank: measured on two LMs, tests/bench/RESULTS.md."""


def fisher(group: Group, statistics: MatrixStatistics, generator: torch.Generator) -> Tensor:
    """``1/2 sum of w^2 E[g^2]`` over each tile: nats per token, diagonal Fisher matrix.

    E[g^2] is damped by DAMPING times its mean over the weights that read the same input.

    Source: optimal brain damage (LeCun, Denker and Solla 1989), eq. 5, with the empirical Fisher
    diagonal in place of the Hessian's.
    """
    curvature = statistics.need("gradient_squared")
    if len(curvature):
        curvature = curvature + DAMPING * curvature.mean(0, keepdim=True)
    return 0.5 * group.tile_sum(group.matrix.detach().square() * curvature)


def kfac(group: Group, statistics: MatrixStatistics, generator: torch.Generator) -> Tensor:
    """``1/2 tr(F D G D^T)`` of each tile D: nats per token, Kronecker-factored Fisher matrix.

    G = E[x x^T] is the input's and F = E[g g^T] the output gradient's second moment, damped by
    DAMPING times its mean (see MatrixStatistics.output_fisher). It counts what the diagonal leaves
    out: correlation between the weights of one tile. All methods and matrices share its unit, so it
    also says which matrix should give most.

    Source: Martens and Grosse 2015 (arXiv 1503.05671), eq. 1, inserted in the second-order
    expansion of the loss.
    """
    matrix = group.matrix.detach()
    height, width = matrix.shape
    tile_rows, tile_columns = height // group.rows, width // group.columns
    tiles = matrix.reshape(tile_rows, group.rows, tile_columns, group.columns)
    outputs = _diagonal_blocks(statistics.output_fisher(DAMPING), group.rows)  # [R, r, r]
    inputs = _diagonal_blocks(statistics.need("gram"), group.columns)  # [C, c, c]
    weighted = torch.einsum("Rij,RjCa->RiCa", outputs, tiles)
    weighted = torch.einsum("RiCa,Cab->RiCb", weighted, inputs)
    return 0.5 * (weighted * tiles).sum(dim=(1, 3)).clamp(min=0.0)  # rounding may go below 0


def _diagonal_blocks(matrix: Tensor, size: int) -> Tensor:
    """Square blocks along the diagonal, [n, n] to [n / size, size, size]."""
    count = matrix.shape[0] // size
    blocks = matrix.reshape(count, size, count, size)
    index = torch.arange(count, device=matrix.device)
    return blocks[index, :, index, :]
