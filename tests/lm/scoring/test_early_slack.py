"""Early termination where log-probs are rounded: what is within the slack of the best is scored."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from asrprune.lm.engines.engine import NodeBatch
from asrprune.lm.scoring.early import EarlyOptions, EarlyScorer
from asrprune.lm.trie import Forest
from tests.small_lm import DrawnTokenizer

Ints = NDArray[np.int64]


class Stated:
    """A NodeModel whose ln p of a token is what it was told, 0 (certain) for any other."""

    node_bytes = 1

    def __init__(self, log_probs: dict[int, float]) -> None:
        self.log_probs = log_probs

    def start(self, forest: Forest) -> None:
        pass

    def batches(
        self, nodes: Ints, computed: NDArray[np.bool_], token_budget: int, row_width: int
    ) -> Iterator[NodeBatch]:
        yield NodeBatch(nodes, len(nodes))

    def compute(self, batch: NodeBatch, sources: Ints, targets: Ints) -> NDArray[np.float64]:
        return np.array([self.log_probs.get(target, 0.0) for target in targets.tolist()])


@pytest.mark.parametrize("weight", [1.0, 0.5])
@pytest.mark.parametrize(
    ("behind", "scored"), [(-0.5, True), (0.0, True), (0.5, True), (1.5, False), (3.0, False)]
)
def test_what_is_within_the_slack_of_the_best_is_scored(
    behind: float, scored: bool, weight: float
) -> None:
    """``behind``: by how many slacks of the LM the second is worse than the first."""
    options = EarlyOptions(band=1, complete=1, slack=0.01)
    model = Stated({3: -1.0, 4: -1.0 - 0.01 * behind})
    scorer = EarlyScorer(model, DrawnTokenizer(), 9, lambda lists: [], options)
    guesses = [np.array([1.0, 0.0])]  # the first is completed at once
    (part,) = scorer.score_lists([["3 5 5 5", "4 6 6 6"]], [np.zeros(2)], weight, guesses)
    assert part.complete.tolist() == [True, scored]
    assert part.lm[0] == -1.0
    assert part.lm[1] == pytest.approx(-1.0 - 0.01 * behind)  # a bound may be exact
