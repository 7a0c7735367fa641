"""The scores of many hypotheses as arrays, and their weighted sum.

``totals`` is ``ScoreWeights.total`` on arrays: same terms, same order, bit for bit the same sums
(a test compares them).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asrprune.core.hypothesis import NBest
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.rescore.scores_file import Scores

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ScoredList:
    """An n-best list with the scores of its hypotheses.

    ``acoustic`` and ``first_lm`` [H] hold NaN where the first pass told nothing; ``lm`` [K, H] are
    the scores of the K rescoring LMs; ``n_words`` [H].
    """

    nbest: NBest
    acoustic: Floats
    first_lm: Floats
    lm: Floats
    n_words: Floats


def scored_lists(lists: Iterable[NBest], scores: Sequence[Scores]) -> Iterator[ScoredList]:
    """The lists joined with the scores of every LM, by utterance id and hypotheses' hash.

    Raises InputError naming the utterance where a scores file has none or others for a list.
    """
    for nbest in lists:
        hyps = nbest.hyps
        yield ScoredList(
            nbest,
            np.array([np.nan if h.acoustic is None else h.acoustic for h in hyps], np.float64),
            np.array([np.nan if h.lm is None else h.lm for h in hyps], np.float64),
            np.array([one.of(nbest) for one in scores]).reshape(len(scores), len(hyps)),
            np.array([len(h.words) for h in hyps], np.float64),
        )


def totals(scored: ScoredList, weights: ScoreWeights, path: str = "n-best") -> Floats:
    """The combined score of every hypothesis, [H].

    A hypothesis with -inf in a term whose weight is not 0 gets -inf, whatever the weight's sign.
    ``path`` names the n-best file in errors. Raises InputError naming the utterance where a term
    with a weight is unknown, ValueError when there are not as many LM weights as LMs.
    """
    if len(weights.lm) != len(scored.lm):
        raise ValueError(f"{len(scored.lm)} LM scores for {len(weights.lm)} LM weights")
    terms = [
        ("acoustic", weights.acoustic, scored.acoustic),
        ("first_lm", weights.first_lm, scored.first_lm),
        *(("lm", weight, values) for weight, values in zip(weights.lm, scored.lm)),
    ]
    total = weights.word_bonus * scored.n_words
    for name, weight, values in terms:
        if weight == 0.0:
            continue
        unknown = np.flatnonzero(np.isnan(values))
        if len(unknown):
            found = f"utterance {scored.nbest.utt}: no {name} score of hypothesis {unknown[0] + 1}"
            raise InputError(path, None, found, f"one, since its weight is {weight}")
        total = total + np.where(np.isneginf(values), -np.inf, weight * values)
    return total
