"""Rescoring without a scores file: the LM is asked only for what can still win.

Two ways: ``rescore_early`` is exact (the first hypothesis is that of scoring everything),
``rescore_cascade`` lets a small LM choose what the large one scores, which is an approximation.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.weights import ScoreWeights, weighted_sum
from asrprune.errors import InputError
from asrprune.lm.protocol import LanguageModel, UnscorableError
from asrprune.lm.scoring.early import EarlyScorer
from asrprune.rescore.nbest.rescore import Rescored, RescoringSummary
from asrprune.rescore.nbest.scored_list import Floats, ScoredList, totals

BLOCK_HYPOTHESES = 5000
"""So many hypotheses are searched together; more fill larger batches, and hold more memory."""


def rescore_early(
    lists: Iterable[ScoredList],
    lm: EarlyScorer,
    weights: ScoreWeights,
    summary: RescoringSummary,
    path: str = "n-best",
) -> Iterator[Rescored]:
    """Every list with its best hypothesis first, the same one as ``rescore`` finds, streaming.

    The last LM weight is that of ``lm``; the lists carry the scores of the LMs before it. Behind
    the best stand the other hypotheses that were scored to their end, highest total first, then
    those that were not, highest bound first: they are no better than their bound, and that their
    order is that of their totals is not known. Equal totals keep the order of the first pass.

    Raises InputError naming the utterance for what cannot be scored, ValueError unless the weight
    of ``lm`` is positive.
    """
    if not weights.lm:
        raise ValueError("no LM weight; expected one for the LM that scores, the last")
    rest = replace(weights, lm=weights.lm[:-1])
    weight = weights.lm[-1]
    for block in blocks(lists):
        others = [_others(scored, rest, path) for scored in block]
        guesses = [
            other + weight * np.where(np.isfinite(scored.first_lm), scored.first_lm, 0.0)
            for scored, other in zip(block, others)
        ]
        texts = [[hyp.text for hyp in scored.nbest.hyps] for scored in block]
        try:
            parts = lm.score_lists(texts, others, weight, guesses)
        except UnscorableError as problem:
            raise _unscorable(block, problem, path) from None
        for scored, other, part in zip(block, others, parts):
            total = weighted_sum(other, [weight], [part.lm])
            yield _ordered(scored, total, part.complete, summary)


@dataclass
class CascadeSummary:
    """What the large LM of a cascade was asked for: ``open_lists`` of ``lists``, and
    ``open_hypotheses`` of ``hypotheses``."""

    lists: int = 0
    open_lists: int = 0
    hypotheses: int = 0
    open_hypotheses: int = 0


def rescore_cascade(
    lists: Iterable[ScoredList],
    small_weights: ScoreWeights,
    large: LanguageModel,
    large_weights: ScoreWeights,
    margin: float,
    summary: RescoringSummary,
    cascade: CascadeSummary,
    path: str = "n-best",
) -> Iterator[Rescored]:
    """Every list sorted after two LMs: a small one for all of it, a large one where it is open.

    The last of a list's LM scores is the small LM's, which ``large`` replaces under the last of
    ``large_weights``; LMs before it count under both. A hypothesis stays in the race when its
    total under ``small_weights`` is within ``margin`` (in units of that total) of the best; a list
    with one left is decided. Those out of the race follow in the small LM's order. An
    approximation: what the large LM alone would choose may be out of the race.

    Raises ValueError for a negative margin, InputError as ``rescore_early`` does.
    """
    if not margin >= 0:
        raise ValueError(f"margin is {margin}; expected >= 0")
    for block in blocks(lists):
        small = [
            totals(scored, small_weights, path) if len(scored.nbest.hyps) > 1 else None
            for scored in block
        ]
        kept = [_in_race(total, margin) for total in small]
        texts = [
            [scored.nbest.hyps[index].text for index in chosen.tolist()]
            for scored, chosen in zip(block, kept)
        ]
        try:
            scores = large.score_lists(texts)
        except UnscorableError as problem:
            number, index = problem.index
            whole = UnscorableError((number, int(kept[number][index])), "", problem.problem)
            raise _unscorable(block, whole, path) from None
        for scored, first, chosen, values in zip(block, small, kept, scores):
            cascade.lists += 1
            cascade.hypotheses += len(scored.nbest.hyps)
            cascade.open_lists += len(chosen) > 0
            cascade.open_hypotheses += len(chosen)
            total = np.zeros(len(scored.nbest.hyps)) if first is None else first
            race = np.zeros(len(total), bool)
            if len(chosen):
                lm = scored.lm.copy()
                lm[-1, chosen] = values
                final = totals(replace(scored, lm=lm), large_weights, path)
                race[chosen] = final[chosen] > -np.inf  # what has no score cannot lead
                total = np.where(race, final, total)
            yield _ordered(scored, total, race, summary)


def blocks(lists: Iterable[ScoredList], size: int = BLOCK_HYPOTHESES) -> Iterator[list[ScoredList]]:
    """Consecutive lists; a block ends with the list that reaches ``size`` hypotheses."""
    block: list[ScoredList] = []
    count = 0
    for scored in lists:
        block.append(scored)
        count += len(scored.nbest.hyps)
        if count >= size:
            yield block
            block, count = [], 0
    if block:
        yield block


def _others(scored: ScoredList, weights: ScoreWeights, path: str) -> Floats:
    """The totals without the LM that is to score; a single hypothesis needs no scores."""
    if len(scored.nbest.hyps) > 1:
        return totals(scored, weights, path)
    return np.zeros(len(scored.nbest.hyps))


def _in_race(total: Optional[Floats], margin: float) -> NDArray[np.int64]:
    """The hypotheses that the large LM is to score: none, or at least two."""
    if total is None or np.isneginf(total.max()):
        return np.zeros(0, np.int64)
    chosen = np.flatnonzero(total >= total.max() - margin)
    return chosen if len(chosen) > 1 else np.zeros(0, np.int64)


def _ordered(
    scored: ScoredList,
    total: Floats,
    scored_to_end: NDArray[np.bool_],
    summary: RescoringSummary,
) -> Rescored:
    """The list with those that were scored to their end first, each part by its total."""
    start = time.perf_counter()
    hyps = scored.nbest.hyps
    ahead = scored_to_end & (total > -np.inf)
    order = np.lexsort((-total, ~ahead)).tolist()
    unscored = bool(order) and bool(np.isneginf(total).all()) and len(order) > 1
    if unscored:
        order = list(range(len(hyps)))
    nbest = replace(scored.nbest, hyps=tuple(hyps[index] for index in order))
    result = Rescored(
        nbest,
        changed=bool(order) and nbest.hyps[0].text != hyps[0].text,
        unscored=unscored,
    )
    summary.search_wall_s += time.perf_counter() - start
    summary.utterances += 1
    summary.changed += result.changed
    summary.unscored += result.unscored
    summary.empty_lists += not order
    return result


def _unscorable(block: Sequence[ScoredList], problem: UnscorableError, path: str) -> InputError:
    number, index = problem.index
    found = f"utterance {block[number].nbest.utt}: hypothesis {index + 1} {problem.problem}"
    return InputError(path, None, found, "hypotheses that the LM can score")
