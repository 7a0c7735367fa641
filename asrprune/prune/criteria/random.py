"""Random: the control that every criterion must beat."""

from __future__ import annotations

import torch
from torch import Tensor

from asrprune.prune.groups import Group
from asrprune.prune.statistics import MatrixStatistics


def random(group: Group, statistics: MatrixStatistics, generator: torch.Generator) -> Tensor:
    """Uniform noise times the parameters that a tile saves: per parameter all tiles are alike."""
    height, width = group.matrix.shape
    tiles = (height // group.rows, width // group.columns)
    noise = torch.rand(tiles, generator=generator)
    return (noise * group.cost).to(group.matrix.device)
