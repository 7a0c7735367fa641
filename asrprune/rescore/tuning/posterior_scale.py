"""The posterior scale of minimum Bayes risk, tuned on dev lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from asrprune.core.weights import ScoreWeights
from asrprune.rescore.decisions import least_risk, pair_errors
from asrprune.rescore.nbest.scored_list import ScoredList, totals
from asrprune.rescore.tuning.problem import word_errors

SCALES = tuple(float(scale) for scale in np.round(np.geomspace(0.005, 2.0, 14), 4))
"""Scales that are tried, for totals in which the acoustic weight may be 1."""


def tune_posterior_scale(
    lists: Iterable[ScoredList],
    refs: Mapping[str, str],
    weights: ScoreWeights,
    path: str = "n-best",
    hypotheses: int = 100,
) -> tuple[float, int]:
    """The scale of SCALES with the fewest word errors of ``least_risk``, and those errors.

    The ``hypotheses`` with the highest finite totals of each list take part. Of equally good
    scales the largest, which is nearest to the best path. Raises InputError as ``totals`` does.
    """
    errors = np.zeros(len(SCALES), np.int64)
    for scored in lists:
        wrong = word_errors(refs[scored.nbest.utt], scored)
        if not scored.nbest.hyps:
            errors += wrong[0]
            continue
        total = totals(scored, weights, path) if len(wrong) > 1 else np.zeros(1)
        order = np.argsort(-total, kind="stable")[:hypotheses]
        order = order[np.isfinite(total[order])]
        if not len(order):
            errors += wrong[0]
            continue
        pairs = pair_errors([scored.units(index) for index in order.tolist()])
        for row, scale in enumerate(SCALES):
            errors[row] += wrong[order[least_risk(pairs, total[order], scale)]]
    best = int(errors.min())
    return max(scale for scale, count in zip(SCALES, errors.tolist()) if count == best), best
