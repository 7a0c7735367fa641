"""What a criterion is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Callable, Optional

import torch
from torch import Tensor

from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import Batch
from asrprune.lm.training.distributed import ProcessGroup
from asrprune.prune.groups import Group
from asrprune.prune.statistics import MatrixStatistics

Score = Callable[[Group, MatrixStatistics, torch.Generator], Tensor]
"""Scores [tile rows, tile columns] of a group's tiles, all >= 0 unless signed. Higher = keep;
scores of tiles add up, and may be compared between matrices after division by the parameters that
they save."""


@dataclass(frozen=True)
class Sample:
    """The text that a criterion reads by itself: the first ``max_tokens`` tokens, in whole batches,
    of what ``batches`` of a model gives, the same at every call. ``processes`` hold the same model
    and text."""

    batches: Callable[[TransformerLM], Iterable[Batch]]
    max_tokens: int
    processes: ProcessGroup


ScoreTogether = Callable[[TransformerLM, Sequence[Group], Sample], list[Tensor]]
"""Scores, as above, of all groups of a model at once; the model is left as it was."""


@dataclass(frozen=True)
class Criterion:
    """A scoring function, the statistics that it reads, and its formula for `asrprune list`.

    ``score`` takes the groups one by one; ``together`` (the other is None then) sees all of them
    and the model. Scores of a ``signed`` criterion may be negative; methods get them raised by one
    constant per parameter, which keeps their order.
    """

    score: Optional[Score]
    needs: frozenset[str]
    description: str
    signed: bool = False
    together: Optional[ScoreTogether] = None

    def __post_init__(self) -> None:
        if (self.score is None) == (self.together is None):
            raise ValueError("expected either score or together")
