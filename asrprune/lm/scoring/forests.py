"""Forward passes over a forest of prefix tries: cut to a budget, computed, collected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asrprune.lm.engines.engine import Engine
from asrprune.lm.engines.workers import Workers
from asrprune.lm.protocol import ScoringStats
from asrprune.lm.trie import BatchPlan, Forest, Piece, build_forest, cut
from asrprune.text.tokenizer import Tokenizer

OVER_LONG = ("error", "minus-inf", "window")
"""What happens to a hypothesis with more tokens than the model has positions for."""

SHORTEST = 4
"""Nodes of the smallest of several passes, in paths: below it they would mostly repeat paths."""


@dataclass(frozen=True)
class ScoringOptions:
    """``token_budget``: most trie nodes in the forward passes of one moment, before they are padded
    to whole rows; bounds memory. None: what the engine computes fastest.
    ``over_long``: one of OVER_LONG. "minus-inf" gives such hypotheses -inf, so that a shorter one
    wins; "window" scores them with a sliding context (``windows``). Both count them.
    """

    token_budget: int | None = None
    over_long: str = "error"

    def __post_init__(self) -> None:
        if self.token_budget is not None and self.token_budget < 1:
            raise ValueError(f"token_budget is {self.token_budget}; expected >= 1")
        if self.over_long not in OVER_LONG:
            raise ValueError(f"over_long is {self.over_long!r}; expected {', '.join(OVER_LONG)}")


class ForestScorer:
    """An engine with its tokeniser. ``limit``: most tokens of a hypothesis, prompt and ``</s>`` not
    counted.
    ``stats`` sums up what all calls so far have done."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        max_positions: int,
        options: ScoringOptions | None = None,
    ) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.limit = max_positions - 1 - len(tokenizer.prompt)
        self.options = options or ScoringOptions()
        self.stats = ScoringStats()
        self._workers = Workers()

    def forest(self, lists: Sequence[Sequence[Sequence[int]]]) -> Forest:
        """The forest of token sequences ``lists[utt][hyp]`` behind the tokeniser's marks."""
        return build_forest(lists, self.tokenizer.begin, self.tokenizer.prompt)

    def run(self, forest: Forest) -> BatchPlan:
        """All that the forest's hypotheses want to know, computed.

        Raises ValueError when the token budget is below the longest hypothesis.
        """
        deepest = int(forest.depth.max()) + 1
        budget = self.options.token_budget
        if budget is None:
            budget = self.engine.token_budget(deepest)
        if budget < deepest:
            raise ValueError(f"token budget is {budget}; the longest hypothesis needs {deepest}")
        plan = BatchPlan(forest, self.tokenizer.end)

        def compute(piece: Piece) -> int:
            batch, answered = plan.batch(piece)
            plan.store(answered, self.engine.log_probs(batch))
            return batch.tokens.size

        passes = min(self.engine.passes, max(1, budget // deepest))
        pieces = cut(forest, _nodes_a_pass(forest, budget, passes))
        computed = sum(self._workers.map(passes, compute, pieces))
        self.stats += ScoringStats(unique_tokens=plan.wanted, computed=computed)
        return plan


def _nodes_a_pass(forest: Forest, budget: int, passes: int) -> int:
    """Nodes in each of ``passes`` that run at once, so that all of them end with the last."""
    most = budget // passes
    if passes == 1:
        return most
    deepest, mean = int(forest.depth.max()) + 1, float(forest.depth.mean())
    turns = -(-len(forest) // max(1, round((most - mean) * passes)))
    even = -(-len(forest) // (turns * passes)) * 17 // 16 + deepest  # cuts take up to an eighth off
    return min(most, max(even, SHORTEST * deepest))
