"""A tiny LM, its batches, and what criteria make of its groups."""

from __future__ import annotations

import numpy as np
import torch

from asrprune.lm.model.shapes import ModelShape, Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import Batch, make_batch
from asrprune.lm.training.loss import next_token_loss
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.groups import Group
from asrprune.prune.statistics import STATISTICS, MatrixStatistics, collect

V = 25


def tiny(heads: int = 2) -> TransformerLM:
    torch.manual_seed(3)
    model = TransformerLM(ModelShape.uniform(V, 16, 2, heads, max_positions=16)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0)  # far enough from zero for effects to show
    return model


def batches(count: int = 3) -> list[Batch]:
    rng = np.random.default_rng(1)
    return [
        make_batch([rng.integers(3, V, size=rng.integers(0, 7)) for _ in range(4)], number)
        for number in range(count)
    ]


def loss_of(model: TransformerLM) -> float:
    with torch.no_grad():
        total = sum(float(next_token_loss(model, one)) for one in batches())
    return total / sum(one.n_targets for one in batches())


def group_of(model: TransformerLM, name: str, rows: int = 1, columns: int = 1) -> Group:
    linear = model.blocks[0].linear(name)
    return Group(Place(0, name), linear, "weight", rows, columns, cost=rows * columns)


def score(criterion: str, group: Group, found: MatrixStatistics) -> torch.Tensor:
    return CRITERIA[criterion].score(group, found, torch.Generator().manual_seed(0))


def all_statistics(model: TransformerLM, group: Group) -> MatrixStatistics:
    return collect(model, [group], batches(), STATISTICS, 10**9)[0]
