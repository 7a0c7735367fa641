"""Activation-aware magnitude: a weight counts as much as what passes through it."""

from __future__ import annotations

import torch
from torch import Tensor

from asrprune.prune.groups import Group
from asrprune.prune.statistics import MatrixStatistics


def activation(group: Group, statistics: MatrixStatistics, generator: torch.Generator) -> Tensor:
    """Sum of ``w_ij^2 E[x_j^2]`` over each tile: the squared change of the output without it.

    For one weight this ranks as Wanda's ``|w| ||x||`` does; for component i of an
    activation-aware factorisation it is that component's eigenvalue.

    Source: Sun et al. 2023 (arXiv 2306.11695), eq. 1.
    """
    return group.tile_sum(group.matrix.detach().square() * statistics.need("input_squared"))
