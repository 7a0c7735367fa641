"""Scores of hypotheses under a Transformer: tokenise, merge into tries, compute, add up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asrprune.lm.engines.table import Engine
from asrprune.lm.trie import BatchPlan, Forest, Piece, build_forest, cut

OVER_LONG = ("error", "minus-inf")
"""What happens to a hypothesis with more tokens than the model has positions for."""

TOKEN_BUDGET = 2048
"""More makes no pass faster; with several threads half of it for each of them is as good."""

SHORTEST = 4
"""Nodes of the smallest of several passes, in paths: below it they would mostly repeat paths."""

_FOREST_CELLS = 4_000_000  # hypotheses x longest, so that a forest takes some tens of MB


@dataclass(frozen=True)
class ScoringOptions:
    """``token_budget``: most trie nodes in the forward passes of one moment, before they are padded
    to whole rows; bounds memory. None: TOKEN_BUDGET, and more with more than two threads.
    ``over_long``: one of OVER_LONG; "minus-inf" gives such hypotheses -inf and counts them.
    """

    token_budget: int | None = None
    over_long: str = "error"

    def __post_init__(self) -> None:
        if self.token_budget is not None and self.token_budget < 1:
            raise ValueError(f"token_budget is {self.token_budget}; expected >= 1")
        if self.over_long not in OVER_LONG:
            raise ValueError(f"over_long is {self.over_long!r}; expected {' or '.join(OVER_LONG)}")


@dataclass(frozen=True)
class ScoringStats:
    """What scoring did; adds up. ``tokens``: predicted tokens of all hypotheses, ``</s>`` counted.
    ``unique_tokens``: the same after merging equal prefixes. ``computed``: places of all forward
    passes, with padding and repeated paths. ``wall_s`` counts everything from text to scores.
    """

    sentences: int = 0
    tokens: int = 0
    unique_tokens: int = 0
    computed: int = 0
    over_long: int = 0
    wall_s: float = 0.0

    def __add__(self, other: ScoringStats) -> ScoringStats:
        return ScoringStats(
            self.sentences + other.sentences,
            self.tokens + other.tokens,
            self.unique_tokens + other.unique_tokens,
            self.computed + other.computed,
            self.over_long + other.over_long,
            self.wall_s + other.wall_s,
        )


class UnscorableError(ValueError):
    """A hypothesis got no usable score; ``index`` is (number of its list, number in the list)."""

    def __init__(self, index: tuple[int, int], sentence: str, problem: str) -> None:
        self.index = index
        self.problem = problem
        start = sentence if len(sentence) <= 60 else sentence[:60] + "..."
        super().__init__(f"{start!r} {problem}")


class TransformerScorer:
    """A LanguageModel that scores the hypotheses of an utterance through their prefix trie.

    ``encode_batch`` turns sentences into token ids without ``<s>`` and ``</s>``. ``stats`` sums
    up what all calls so far have done.
    """

    def __init__(
        self,
        engine: Engine,
        encode_batch: Callable[[Sequence[str]], list[list[int]]],
        max_positions: int,
        bos: int = 1,
        eos: int = 2,
        options: ScoringOptions | None = None,
        name: str = "transformer",
    ) -> None:
        self.engine = engine
        self.options = options or ScoringOptions()
        self.stats = ScoringStats()
        self.encode_batch = encode_batch
        self.limit = max_positions - 1
        self.bos, self.eos = bos, eos
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def score_lists(self, lists: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
        """ln P(sentence, </s> | <s>) of every sentence: one float64 array per list, in order.

        Raises UnscorableError for an over-long hypothesis under the policy "error" and for a score
        that is NaN or +inf; ValueError when the token budget is below the longest hypothesis.
        """
        start = time.perf_counter()
        encoded = self._encode_lists(lists)
        scores: list[NDArray[np.float64]] = []
        for block in _blocks(encoded):
            scores += self._score_block(block)
        for number, (sentences, values) in enumerate(zip(lists, scores)):
            bad = np.flatnonzero(np.isnan(values) | (values == np.inf))
            if len(bad):
                index = int(bad[0])
                problem = f"has the score {values[index]}"
                raise UnscorableError((number, index), sentences[index], problem)
        self.stats += ScoringStats(wall_s=time.perf_counter() - start)
        return scores

    def _encode_lists(self, lists: Sequence[Sequence[str]]) -> list[list[list[int] | None]]:
        """Token ids of every sentence; None where the policy gives it -inf."""
        flat = [sentence for sentences in lists for sentence in sentences]
        ids = iter(self.encode_batch(flat) if flat else [])
        encoded: list[list[list[int] | None]] = []
        for number, sentences in enumerate(lists):
            here: list[list[int] | None] = []
            for index, sentence in enumerate(sentences):
                tokens = next(ids)
                if len(tokens) <= self.limit:
                    here.append(tokens)
                    continue
                if self.options.over_long == "error":
                    problem = f"has {len(tokens)} tokens; the model takes at most {self.limit}"
                    raise UnscorableError((number, index), sentence, problem)
                here.append(None)
            encoded.append(here)
        return encoded

    def _score_block(self, block: list[list[list[int] | None]]) -> list[NDArray[np.float64]]:
        kept = [[ids for ids in hyps if ids is not None] for hyps in block]
        forest = build_forest(kept, self.bos)
        flat = self.run_forest(forest).sentence_scores() if len(forest) else np.zeros(0)
        scores = []
        position = 0
        for hyps, good in zip(block, kept):
            values = np.full(len(hyps), -np.inf)
            values[[ids is not None for ids in hyps]] = flat[position : position + len(good)]
            position += len(good)
            scores.append(values)
        sentences = sum(map(len, block))
        self.stats += ScoringStats(
            sentences=sentences,
            tokens=sum(len(ids) + 1 for hyps in kept for ids in hyps),
            over_long=sentences - sum(map(len, kept)),
        )
        return scores

    def run_forest(self, forest: Forest) -> BatchPlan:
        """All that the forest's hypotheses want to know, computed. Raises as ``score_lists``."""
        budget = self.options.token_budget
        if budget is None:
            budget = max(TOKEN_BUDGET, self.engine.passes * TOKEN_BUDGET // 2)
        deepest = int(forest.depth.max()) + 1
        if budget < deepest:
            raise ValueError(f"token budget is {budget}; the longest hypothesis needs {deepest}")
        plan = BatchPlan(forest, self.eos)

        def compute(piece: Piece) -> int:
            batch, answered = plan.batch(piece)
            plan.store(answered, self.engine.log_probs(batch))
            return batch.tokens.size

        passes = min(self.engine.passes, max(1, budget // deepest))
        pieces = cut(forest, _nodes_a_pass(forest, budget, passes))
        if passes == 1:
            computed = sum(map(compute, pieces))
        else:
            with ThreadPoolExecutor(passes) as workers:
                computed = sum(workers.map(compute, pieces))
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


def _blocks(lists: list[list[list[int] | None]]) -> Iterator[list[list[list[int] | None]]]:
    """Consecutive lists in groups whose matrix of hypotheses x longest stays bounded."""
    group: list[list[list[int] | None]] = []
    rows = longest = 0
    for hyps in lists:
        here = max((len(ids) + 1 for ids in hyps if ids is not None), default=1)
        if group and (rows + len(hyps)) * max(longest, here) > _FOREST_CELLS:
            yield group
            group, rows, longest = [], 0, 0
        group.append(hyps)
        rows += len(hyps)
        longest = max(longest, here)
    if group:
        yield group
