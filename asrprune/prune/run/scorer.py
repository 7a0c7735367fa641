"""A criterion with its data: the scores that methods ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import Batch, BatchStream
from asrprune.lm.training.distributed import ProcessGroup
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.criteria.criterion import Sample
from asrprune.prune.groups import Group
from asrprune.prune.paired import PairedMoments, paired_moments
from asrprune.prune.run.fine_tuning import Movement
from asrprune.prune.run.plan import Plan
from asrprune.prune.statistics import MatrixStatistics, collect
from asrprune.text.corpus import TokenStream


@dataclass(frozen=True)
class PruningData:
    """Token streams of the text that the LM was trained on; ``valid`` is for perplexities."""

    train: TokenStream
    valid: Optional[TokenStream] = None


class DataScorer:
    """A criterion with its data: what methods ask (the Scorer protocol)."""

    def __init__(
        self,
        plan: Plan,
        data: PruningData,
        step: int,
        movement: Optional[Mapping[str, Movement]] = None,
        processes: Optional[ProcessGroup] = None,
    ) -> None:
        self._plan = plan
        self._data = data
        self._step = step
        self._movement = {} if movement is None else movement
        self._processes = processes

    def scores(self, model: TransformerLM, groups: Sequence[Group]) -> list[Tensor]:
        """Scores [tile rows, tile columns] of every group; the same call gives the same scores."""
        criterion = CRITERIA[self._plan.criterion]
        if criterion.together is not None:
            return criterion.together(model, groups, self._sample(model))
        assert criterion.score is not None  # Criterion checks it
        found = self.statistics(model, groups, criterion.needs)
        if "movement" in criterion.needs:
            for group, one in zip(groups, found):
                past = self._movement.get(group.parameter)
                if past is not None and torch.equal(past.weight, group.matrix):
                    one.movement = past.mean
        generator = torch.Generator().manual_seed(self._plan.seed)
        with torch.no_grad():
            scores = [criterion.score(*pair, generator) for pair in zip(groups, found)]
        return _raised(scores, groups) if criterion.signed else scores

    def statistics(
        self, model: TransformerLM, groups: Sequence[Group], needs: frozenset[str]
    ) -> list[MatrixStatistics]:
        """Statistics over the plan's statistics tokens, of other sentences at every step."""
        limit = self._plan.statistics_tokens
        return collect(model, groups, self.batches(model), needs, limit, self._processes)

    def paired(
        self, model: TransformerLM, other: TransformerLM, places: Sequence[Place]
    ) -> dict[Place, PairedMoments]:
        """Moments of the inputs of ``places`` in two models, over the same tokens as statistics."""
        limit = self._plan.statistics_tokens
        return paired_moments(model, other, places, self.batches(model), limit, self._processes)

    def _sample(self, model: TransformerLM) -> Sample:
        processes = self._processes or ProcessGroup(device=model.device)
        return Sample(self.batches, self._plan.statistics_tokens, processes)

    def batches(self, model: TransformerLM) -> Iterator[Batch]:
        """Training sentences that fit the model, drawn for this step, on its device: one epoch."""
        positions = model.max_positions
        budget = max(positions, min(2048, self._plan.fine_tuning.batch_tokens))
        seed = self._plan.seed + 7919 * (self._step + 1)  # apart from the fine-tuning batches
        stream = BatchStream(self._data.train, budget, seed, positions)
        while stream.epoch == 0:
            yield stream.next_batch().to(model.device)


def _raised(scores: Sequence[Tensor], groups: Sequence[Group]) -> list[Tensor]:
    """The scores plus one constant per parameter saved, such that the lowest one is 0."""
    lowest = [score.min() / group.cost for score, group in zip(scores, groups) if score.numel()]
    if not lowest:
        return list(scores)
    floor = min(lowest)
    return [(score - floor * group.cost).clamp(min=0.0) for score, group in zip(scores, groups)]
