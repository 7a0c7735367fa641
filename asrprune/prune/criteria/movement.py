"""Movement: weights that fine-tuning drives away from zero stay, those driven towards it go."""

from __future__ import annotations

import torch
from torch import Tensor

from asrprune.prune.groups import Group
from asrprune.prune.statistics import MatrixStatistics


def movement(group: Group, statistics: MatrixStatistics, generator: torch.Generator) -> Tensor:
    """Sum over each tile of the mean of ``-w g`` over the fine-tuning since the last pruning step.

    g is the gradient of the fine-tuning loss per token: positive where a step of gradient descent
    makes the size of w grow. The score is signed. A matrix that has not been fine-tuned in its
    present form (the first pruning step, one-shot, a product factored again) has ``-w g`` of the
    statistics tokens, in the same unit, in its place.

    Source: Sanh, Wolf and Rush 2020 (arXiv 2005.07683), eq. 5, which sums over all of training
    with weights that stay in the forward pass; here the sum starts again at every pruning step.
    """
    return group.tile_sum(statistics.need("movement"))
