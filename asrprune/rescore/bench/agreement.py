"""How far the scores of an engine are from the reference's, and what that changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.counts import ErrorCounts
from asrprune.core.hypothesis import NBest
from asrprune.core.weights import ScoreWeights
from asrprune.rescore.nbest.scored_list import scored_lists, totals
from asrprune.rescore.scores_file import Scores, UtteranceScores
from asrprune.wer.bootstrap import PairedComparison, compare_paired
from asrprune.wer.wer import count_errors

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Two ways of scoring the same lists. Differences are |ln P - reference's ln P| a hypothesis;
    ``bias`` is the mean of ln P - reference's ln P over those that both can score.

    ``changed_best``: lists (of ``lists`` with two or more hypotheses) with another best one;
    ``moved``: hypotheses with another rank. Ranks are by total score under weights, by LM score
    alone without. ``wer``: the reference first, the other second; None without weights or where a
    list has no reference text.
    """

    hypotheses: int
    max_difference: float
    mean_difference: float
    bias: float
    lists: int
    changed_best: int
    moved: int
    wer: Optional[PairedComparison] = None


def compare_scores(
    lists: Sequence[NBest],
    reference: Sequence[Floats],
    found: Sequence[Floats],
    weights: Optional[ScoreWeights] = None,
) -> Agreement:
    """The agreement of two sets of LM scores, one array [H] a list, in the lists' order.

    Two scores of -inf agree; one against a number differ by infinity. Raises what ``totals``
    raises for weights that do not fit the lists or are not for one LM.
    """
    one = np.concatenate([*reference, np.zeros(0)])
    other = np.concatenate([*found, np.zeros(0)])
    finite = np.isfinite(one) & np.isfinite(other)
    differences = np.where(one == other, 0.0, np.inf)
    differences[finite] = np.abs(one[finite] - other[finite])
    orders = [
        (_order(_ranked_by(nbest, a, weights)), _order(_ranked_by(nbest, b, weights)))
        for nbest, a, b in zip(lists, reference, found)
    ]
    return Agreement(
        hypotheses=len(one),
        max_difference=float(differences.max(initial=0.0)),
        mean_difference=float(differences.mean()) if len(one) else 0.0,
        bias=float((other[finite] - one[finite]).mean()) if finite.any() else 0.0,
        lists=sum(len(nbest.hyps) > 1 for nbest in lists),
        changed_best=sum(bool((a[:1] != b[:1]).any()) for a, b in orders),
        moved=sum(int((a != b).sum()) for a, b in orders),
        wer=None if weights is None else _wer(lists, orders),
    )


def _ranked_by(nbest: NBest, lm: Floats, weights: Optional[ScoreWeights]) -> Floats:
    if weights is None or len(lm) < 2:
        return lm
    scores = Scores("lm", {}, {nbest.utt: UtteranceScores(nbest.utt, nbest.digest, lm)})
    (scored,) = scored_lists([nbest], [scores])
    return totals(scored, weights)


def _order(values: Floats) -> NDArray[np.int64]:
    """The hypotheses, best first, equal ones as they stand."""
    return np.argsort(-values, kind="stable")


def _wer(
    lists: Sequence[NBest], orders: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> Optional[PairedComparison]:
    counts: tuple[dict[str, ErrorCounts], dict[str, ErrorCounts]] = ({}, {})
    for nbest, both in zip(lists, orders):
        if nbest.ref is None:
            return None
        for system, order in zip(counts, both):
            best = nbest.hyps[int(order[0])].text if len(order) else ""
            system[nbest.utt] = count_errors(nbest.ref, best)
    if not any(one.words for one in counts[0].values()):
        return None
    return compare_paired(*counts)
