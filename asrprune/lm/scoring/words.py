"""ln P of every word of whole hypotheses: what a lattice's arcs need."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from asrprune.lm.protocol import Floats, ScoringStats, UnscorableError, Words, checked_words
from asrprune.lm.scoring.forests import ForestScorer
from asrprune.lm.windows import Window, windows
from asrprune.text.coverage import Spelling

_BLOCK_TOKENS = 250_000  # in one forest, so that it takes some tens of MB


class ForestWordScorer:
    """A WordScorer that computes through the prefix trie.

    What becomes of a hypothesis with more tokens than the model has positions, the options' policy
    ``over_long`` says.
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
        lists = checked_words(lists)
        start = time.perf_counter()
        tokenizer = self._forests.tokenizer
        tokenizer.learn(word for hyps in lists for hyp in hyps for word in hyp)
        encoded = [[tokenizer.encode_words(hyp) for hyp in hyps] for hyps in lists]
        flat = [hyp for hyps in encoded for hyp in hyps]
        scores = [np.full(len(hyp) + 1, -np.inf) for hyp in flat]
        over_long = 0
        block: list[list[list[int]]] = []
        parts: list[tuple[int, Window]] = []
        at = tokens = 0
        for number, hyps in enumerate(encoded):
            block.append([])
            for index, words in enumerate(hyps):
                ids = [*(token for word in words for token in word), *tokenizer.tail]
                cut = self._cut(number, index, lists, ids)
                over_long += len(cut) != 1
                block[-1] += [ids[one.start : one.stop] for one in cut]
                parts += [(at + index, one) for one in cut]
            at += len(hyps)
            tokens += sum(len(ids) + 1 for ids in block[-1])
            if tokens > _BLOCK_TOKENS:
                self._score(block, parts, flat, scores)
                block, parts, tokens = [], [], 0
        self._score(block, parts, flat, scores)
        _check(lists, scores)
        self._forests.stats += ScoringStats(
            len(flat), over_long=over_long, wall_s=time.perf_counter() - start
        )
        sizes = np.cumsum([0] + [len(hyps) for hyps in lists])
        return [scores[low:high] for low, high in zip(sizes[:-1], sizes[1:])]

    def _cut(
        self, number: int, index: int, lists: Sequence[Sequence[Words]], ids: list[int]
    ) -> tuple[Window, ...]:
        """The windows in which a hypothesis is scored, none where its score is -inf."""
        limit, policy = self._forests.limit, self._forests.options.over_long
        if len(ids) <= limit or policy == "window":
            return windows(len(ids), limit)
        if policy == "error":
            problem = f"has {len(ids)} tokens; the model takes at most {limit} (see --over-long)"
            raise UnscorableError((number, index), " ".join(lists[number][index]), problem)
        return ()

    def _score(
        self,
        block: list[list[list[int]]],
        parts: list[tuple[int, Window]],
        words: Sequence[Sequence[Sequence[int]]],  # token ids of every word of every hypothesis
        scores: list[Floats],
    ) -> None:
        """Fill in the scores of the hypotheses at the places of ``parts``, whose windows those of
        ``block`` are."""
        forest = self._forests.forest(block)
        if not len(forest):
            return
        self.tokens += len(forest)
        token, final = self._forests.run(forest).token_scores()
        of_tokens: list[Floats] = []
        for (place, one), end in zip(parts, forest.ends.tolist()):
            of_tokens.append(token[forest.path(end)[one.scored - one.start :]])
            if not one.last:
                continue
            values = np.concatenate(of_tokens)
            of_tokens = []
            lengths = np.array([len(word) for word in words[place]], np.int64)
            starts = np.cumsum(lengths) - lengths
            scores[place][:-1] = 0.0  # of a word without tokens
            spoken = int(lengths.sum())
            if spoken:
                sums = np.add.reduceat(values[:spoken], starts[lengths > 0])
                scores[place][:-1][lengths > 0] = sums
            scores[place][-1] = values[spoken:].sum() + final[end]


def _check(lists: Sequence[Sequence[Words]], scores: Sequence[Floats]) -> None:
    values = iter(scores)
    for number, hyps in enumerate(lists):
        for index, hyp in enumerate(hyps):
            here = next(values)
            bad = here[np.isnan(here) | (here == np.inf)]
            if len(bad):
                problem = f"has the score {bad[0]} of a word"
                raise UnscorableError((number, index), " ".join(hyp), problem)
