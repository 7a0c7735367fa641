"""What the weights of a dev set are worth on other utterances: two folds, and the bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.weights import ScoreWeights
from asrprune.rescore.nbest.scored_list import Floats
from asrprune.rescore.tuning.problem import Problem
from asrprune.rescore.tuning.smooth_search import expected_each

Search = Callable[[Floats], Floats]
"""Weights [F] for a dev set in which each utterance counts as often as the argument [U] says."""

SPLITS = 6
"""How often dev is split into halves to judge an LM: one split decides by its own accidents."""


@dataclass(frozen=True)
class Intervals:
    """The 95 % bootstrap interval of each weight over the utterances of dev."""

    low: ScoreWeights
    high: ScoreWeights


def fold_errors(problem: Problem, search: Search) -> NDArray[np.int64]:
    """The word errors of each utterance [U] at weights that the other half of dev gave.

    The utterances, in the order of their ids, are dealt out in turn to the two halves.
    """
    errors = np.zeros(len(problem.words), np.int64)
    for fold in (0, 1):
        held_out = np.arange(len(errors)) % 2 == fold
        weights = search((~held_out).astype(np.float64))
        errors[held_out] = problem.chosen_errors(weights)[held_out]
    return errors


def expected_on_folds(
    problem: Problem, search: Search, sharpness: float, splits: int = SPLITS
) -> Floats:
    """The expected word errors of each utterance [U] at weights that the other half of dev gave,
    the mean over several ``splits`` of dev into halves: that of ``fold_errors``, then random ones,
    the same for the same number of utterances."""
    size = len(problem.words)
    errors = np.zeros(size)
    for split in range(splits):
        half = np.arange(size) % 2
        if split:
            half = np.random.default_rng(split).permutation(half)
        for fold in (0, 1):
            held_out = half == fold
            weights = search((half != fold).astype(np.float64))
            errors[held_out] += expected_each(problem, weights, sharpness)[held_out]
    return errors / splits


def most_restrained(found: Sequence[tuple[str, NDArray[np.int64]]]) -> str:
    """The first of the searches, the most restrained first, whose held-out errors [U] cannot be
    told from the fewest: at most half a standard error of the paired difference above them.

    Source of the rule: L. Breiman et al., "Classification and regression trees", 1984, 3.4.3 (one
    standard error there; half of one lost less on pocketsphinx's and Whisper's lists).
    """
    best = min((errors for _, errors in found), key=lambda errors: int(errors.sum()))
    for name, errors in found:
        more = errors - best
        doubt = 0.5 * np.sqrt(len(more)) * more.std(ddof=1) if len(more) > 1 else np.inf
        if more.sum() <= doubt:
            return name
    raise AssertionError  # the best is among them


def bootstrap_weights(
    problem: Problem, search: Search, resamples: int, seed: int
) -> Optional[tuple[Floats, Floats]]:
    """The 2.5 and the 97.5 % quantile [F] of the weights over resampled utterances; None without
    resamples."""
    if not resamples:
        return None
    random = np.random.default_rng(seed)
    size = len(problem.words)
    found = []
    for _ in range(resamples):
        drawn = random.integers(0, size, size)
        found.append(search(np.bincount(drawn, minlength=size).astype(np.float64)))
    low, high = np.quantile(np.array(found), [0.025, 0.975], axis=0)
    return low, high
