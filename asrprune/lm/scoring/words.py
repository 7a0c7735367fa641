"""ln P of every word of whole hypotheses: what a lattice's arcs need."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from asrprune.lm.ngram import NgramLM
from asrprune.lm.protocol import LanguageModel
from asrprune.lm.scoring.sentences import ScoringStats, TransformerScorer, UnscorableError
from asrprune.lm.trie import Forest, build_forest

Floats = NDArray[np.float64]
Words = Sequence[str]
_BLOCK_TOKENS = 250_000  # in one forest, so that it takes some tens of MB


class WordScorer(Protocol):
    """Scores hypotheses word by word.

    ``tokens`` counts the forward positions (or n-grams) that all calls so far have computed.
    """

    tokens: int

    @property
    def name(self) -> str:
        """Short description for tables and logs."""

    def score_words(self, lists: Sequence[Sequence[Words]]) -> list[list[Floats]]:
        """[words + 1] float64 for every hypothesis of every list: ln P of each word given those
        before it, then of ``</s>``; their sum is the sentence's score. -inf for all of them where
        the model cannot score the hypothesis. Raises UnscorableError for NaN or +inf."""


class WordEncoder:
    """Token ids of words, each word encoded once.

    SentencePiece's pieces never cross a word boundary, so that the ids of a sentence are those of
    its words laid end to end. (Measured: equal on 100,000 sentences of 19th-century prose,
    unigram, 4,000 pieces; a test draws others.)
    """

    def __init__(self, encode_batch: Callable[[Sequence[str]], list[list[int]]]) -> None:
        self._encode_batch = encode_batch
        self._known: dict[str, tuple[int, ...]] = {}

    def learn(self, words: Iterable[str]) -> None:
        """Encode those that are new, all at once."""
        new = sorted(set(words) - self._known.keys())
        if new:
            self._known.update(zip(new, map(tuple, self._encode_batch(new))))

    def __call__(self, word: str) -> tuple[int, ...]:
        """The ids of one word."""
        self.learn((word,))
        return self._known[word]


class TransformerWordScorer:
    """A TransformerScorer's engine, asked word by word through the prefix trie.

    A hypothesis with more tokens than the model has positions gets -inf.
    """

    def __init__(self, scorer: TransformerScorer) -> None:
        self._scorer = scorer
        self._encode = WordEncoder(scorer.encode_batch)
        self.tokens = 0

    @property
    def name(self) -> str:
        return self._scorer.name

    def score_words(self, lists: Sequence[Sequence[Words]]) -> list[list[Floats]]:
        """As WordScorer says; one trie a list, many lists a batch."""
        start = time.perf_counter()
        self._encode.learn(word for hyps in lists for hyp in hyps for word in hyp)
        flat = [hyp for hyps in lists for hyp in hyps]
        scores = [np.full(len(hyp) + 1, -np.inf) for hyp in flat]
        encoded = [[[t for w in hyp for t in self._encode(w)] for hyp in hyps] for hyps in lists]
        over_long = 0
        block: list[list[list[int]]] = []
        places: list[int] = []
        at = tokens = 0
        for hyps in encoded:
            kept = [i for i, ids in enumerate(hyps) if len(ids) <= self._scorer.limit]
            over_long += len(hyps) - len(kept)
            block.append([hyps[i] for i in kept])
            places += [at + i for i in kept]
            at += len(hyps)
            tokens += sum(len(hyps[i]) + 1 for i in kept)
            if tokens > _BLOCK_TOKENS:
                self._score(block, places, flat, scores)
                block, places, tokens = [], [], 0
        self._score(block, places, flat, scores)
        _check(lists, scores)
        self._scorer.stats += ScoringStats(
            len(flat), over_long=over_long, wall_s=time.perf_counter() - start
        )
        sizes = np.cumsum([0] + [len(hyps) for hyps in lists])
        return [scores[low:high] for low, high in zip(sizes[:-1], sizes[1:])]

    def _score(
        self,
        block: list[list[list[int]]],
        places: list[int],
        hyps: Sequence[Words],
        scores: list[Floats],
    ) -> None:
        """Fill in the scores of the hypotheses at ``places``, which are those of ``block``."""
        forest = build_forest(block, self._scorer.bos)
        if not len(forest):
            return
        self.tokens += len(forest)
        token, final = self._scorer.run_forest(forest).token_scores()
        for place, end in zip(places, forest.ends.tolist()):
            ids = _path(forest, end)
            lengths = [len(self._encode(word)) for word in hyps[place]]
            starts = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)
            if len(lengths):
                scores[place][:-1] = np.add.reduceat(token[ids], starts)
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


class NgramWordScorer:
    """An n-gram model, asked word by word."""

    def __init__(self, lm: NgramLM) -> None:
        self._lm = lm
        self.tokens = 0

    @property
    def name(self) -> str:
        return self._lm.name

    def score_words(self, lists: Sequence[Sequence[Words]]) -> list[list[Floats]]:
        """As WordScorer says; ``tokens`` counts no shared prefixes, since nothing is shared."""
        self.tokens += sum(len(hyp) + 1 for hyps in lists for hyp in hyps)
        return [[self._lm.word_log_probs(" ".join(hyp))[0] for hyp in hyps] for hyps in lists]


def word_scorer(lm: LanguageModel) -> WordScorer:
    """The word-by-word view of a language model. Raises ValueError for one that has none."""
    if isinstance(lm, TransformerScorer):
        return TransformerWordScorer(lm)
    if isinstance(lm, NgramLM):
        return NgramWordScorer(lm)
    raise ValueError(f"{lm.name} does not score words one by one")
