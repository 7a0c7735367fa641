"""The sizes that an elastic LM is trained at: the sandwich of the two ends and what is between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from asrprune.lm.model.elastic import Elastic
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import Batch
from asrprune.lm.training.loss import LossFunction

PARTS = 4
"""Batches of an optimiser step, each for one size: a quarter of its tokens for the largest, one for
the smallest, and one each for a size drawn from the larger and from the smaller half between."""


@dataclass(frozen=True)
class Sandwich:
    """Which size each batch of the training of an ``elastic`` LM is for, drawn from ``seed`` and
    the number of the batch.

    Source: Yu and Huang 2019 (universally slimmable networks, arXiv 1903.05134), 3.2, the sandwich
    rule; there each size sees all of a step's data, here a part, so that a token costs one pass.
    """

    elastic: Elastic
    seed: int

    def steps(self, number: int) -> int:
        """Those of the cut for batch ``number``."""
        saved, part = self.elastic.saved, number % PARTS
        if part < 2:
            return part * self.elastic.steps
        drawn = np.random.default_rng([self.seed, number]).random()
        return int(np.abs(saved - saved[-1] * (part - 2 + drawn) / 2).argmin())

    def losing(self, loss: LossFunction) -> LossFunction:
        """``loss`` of the model cut to the size of each batch; the model is left cut so, in what it
        computes, for the backward pass."""

        def cut_loss(model: TransformerLM, batch: Batch) -> Tensor:
            self.elastic.use(model, self.steps(batch.number))
            return loss(model, batch)

        return cut_loss
