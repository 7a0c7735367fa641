"""First-order Taylor: how much the loss changes, to first order, when a tile becomes zero."""

from __future__ import annotations

import torch
from torch import Tensor

from asrprune.prune.groups import Group
from asrprune.prune.statistics import MatrixStatistics


def taylor(group: Group, statistics: MatrixStatistics, generator: torch.Generator) -> Tensor:
    """``|sum of w g|`` over each tile, g the gradient of the mean loss: nats per token.

    The sum comes before the absolute value: effects of opposite sign inside a tile cancel, as
    they do in the loss. For a loss that is linear in the tile this is the true change. For a
    neuron the tile holds its outgoing weights (zero there removes the neuron), for a head its
    columns of the output matrix, for component i ``<a_i, dL/da_i>`` (= ``<b_i, dL/db_i>``).

    Source: Molchanov et al. 2017 (arXiv 1611.06440), eq. 8; Michel et al. 2019 (arXiv 1905.10650)
    for heads.
    """
    return group.tile_sum(group.matrix.detach() * statistics.need("gradient")).abs()


def taylor_squared(
    group: Group, statistics: MatrixStatistics, generator: torch.Generator
) -> Tensor:
    """``1/2 E[(sum of w g)^2]`` over each tile: nats per token.

    The squared first-order effect, token by token in expectation; by the Fisher identity also
    the second-order effect of scaling the whole tile to zero. It does not vanish at a minimum,
    where the mean gradient does.

    Source: Theis et al. 2018 (arXiv 1801.05787), eq. 7; Molchanov et al. 2019 (arXiv 1906.10771).
    """
    return 0.5 * statistics.need("tile_gradient_squared")
