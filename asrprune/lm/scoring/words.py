"""ln P of every word of whole hypotheses: what a lattice's arcs need."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from asrprune.lm.protocol import Floats, ScoringStats, UnscorableError, Words, check_words
from asrprune.lm.scoring.forests import ForestScorer
from asrprune.lm.trie import Forest, build_forest
from asrprune.text.coverage import Spelling

_BLOCK_TOKENS = 250_000  # in one forest, so that it takes some tens of MB


class ForestWordScorer:
    """A WordScorer that computes through the prefix trie.

    A hypothesis with more tokens than the model has positions gets -inf.
    """

    def __init__(self, forests: ForestScorer, name: str) -> None:
        self._forests = forests
        self._name = name
        self.spelling: Spelling = forests.tokenizer
        self.tokens = 0

    @property
    def name(self) -> str:
        return self._name

    def score_words(self, lists: Sequence[Sequence[Words]]) -> list[list[Floats]]:
        """As WordScorer says; one trie a list, many lists a batch."""
        check_words(lists)
        start = time.perf_counter()
        tokenizer = self._forests.tokenizer
        tokenizer.learn(word for hyps in lists for hyp in hyps for word in hyp)
        encoded = [[tokenizer.encode_words(hyp) for hyp in hyps] for hyps in lists]
        flat = [hyp for hyps in encoded for hyp in hyps]
        scores = [np.full(len(hyp) + 1, -np.inf) for hyp in flat]
        over_long = 0
        block: list[list[list[int]]] = []
        places: list[int] = []
        at = tokens = 0
        for hyps in encoded:
            sentences = [[token for ids in hyp for token in ids] for hyp in hyps]
            kept = [i for i, ids in enumerate(sentences) if len(ids) <= self._forests.limit]
            over_long += len(hyps) - len(kept)
            block.append([sentences[i] for i in kept])
            places += [at + i for i in kept]
            at += len(hyps)
            tokens += sum(len(sentences[i]) + 1 for i in kept)
            if tokens > _BLOCK_TOKENS:
                self._score(block, places, flat, scores)
                block, places, tokens = [], [], 0
        self._score(block, places, flat, scores)
        _check(lists, scores)
        self._forests.stats += ScoringStats(
            len(flat), over_long=over_long, wall_s=time.perf_counter() - start
        )
        sizes = np.cumsum([0] + [len(hyps) for hyps in lists])
        return [scores[low:high] for low, high in zip(sizes[:-1], sizes[1:])]

    def _score(
        self,
        block: list[list[list[int]]],
        places: list[int],
        words: Sequence[Sequence[Sequence[int]]],  # token ids of every word of every hypothesis
        scores: list[Floats],
    ) -> None:
        """Fill in the scores of the hypotheses at ``places``, which are those of ``block``."""
        forest = build_forest(block, self._forests.tokenizer.begin)
        if not len(forest):
            return
        self.tokens += len(forest)
        token, final = self._forests.run(forest).token_scores()
        for place, end in zip(places, forest.ends.tolist()):
            ids = _path(forest, end)
            lengths = np.array([len(word) for word in words[place]], np.int64)
            starts = np.cumsum(lengths) - lengths
            scores[place][:-1] = 0.0  # of a word without tokens
            if ids:
                sums = np.add.reduceat(token[ids], starts[lengths > 0])
                scores[place][:-1][lengths > 0] = sums
            scores[place][-1] = final[end]


def _path(forest: Forest, end: int) -> list[int]:
    """The nodes from behind the root to ``end``."""
    path = []
    while forest.parent[end] >= 0:
        path.append(end)
        end = int(forest.parent[end])
    return path[::-1]


def _check(lists: Sequence[Sequence[Words]], scores: Sequence[Floats]) -> None:
    values = iter(scores)
    for number, hyps in enumerate(lists):
        for index, hyp in enumerate(hyps):
            here = next(values)
            bad = here[np.isnan(here) | (here == np.inf)]
            if len(bad):
                problem = f"has the score {bad[0]} of a word"
                raise UnscorableError((number, index), " ".join(hyp), problem)
