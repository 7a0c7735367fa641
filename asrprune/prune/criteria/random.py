"""Random: the control that every criterion must beat."""

from __future__ import annotations

import torch
from torch import Tensor

from asrprune.prune.gates import Gate
from asrprune.prune.statistics import MatrixStatistics


def random(gate: Gate, statistics: MatrixStatistics, generator: torch.Generator) -> Tensor:
    """Uniform noise times the parameters that a tile saves: per parameter all tiles are alike."""
    height, width = gate.matrix.shape
    tiles = (height // gate.rows, width // gate.columns)
    noise = torch.rand(tiles, generator=generator)
    return (noise * gate.cost).to(gate.matrix.device)
