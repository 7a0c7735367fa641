"""What a criterion is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import torch
from torch import Tensor

from asrprune.prune.groups import Group
from asrprune.prune.statistics import MatrixStatistics

Score = Callable[[Group, MatrixStatistics, torch.Generator], Tensor]
"""Scores [tile rows, tile columns] of a group's tiles, all >= 0 unless signed. Higher = keep;
scores of tiles add up, and may be compared between matrices after division by the parameters that
they save."""


@dataclass(frozen=True)
class Criterion:
    """A scoring function, the statistics that it reads, and its formula for `asrprune list`.

    Scores of a ``signed`` criterion may be negative; methods get them raised by one constant per
    parameter, which keeps their order.
    """

    score: Score
    needs: frozenset[str]
    description: str
    signed: bool = False
