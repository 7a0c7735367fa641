"""Weights with the fewest expected word errors, drawn towards a centre.

The word errors of the best hypotheses are a step function of the weights, and its lowest step on a
dev set is often an accident. Here each hypothesis counts with its posterior, proportional to
exp(sharpness * total): the objective is smooth, and a quadratic penalty keeps the weights near a
centre unless the dev set says otherwise. Nearly equal scores get nearly equal weights.
Source: F. J. Och, "Minimum error rate training in statistical machine translation", ACL 2003,
section 4 (the smoothed error count); the penalty, and what chooses it, are our own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional, Union

import numpy as np

from asrprune.core.spool import Spool
from asrprune.rescore.nbest.scored_list import Floats
from asrprune.rescore.tuning.problem import Problem

STEPS = 60
"""Most steps of one search; about ten are usual."""

IN_MEMORY = 1 << 25
"""So many bytes of expected errors of mixtures are in memory; those of more utterances are in a
temporary file."""


@dataclass(frozen=True)
class Pull:
    """The penalty: ``strength`` errors per reference word for weights that are one unit (see
    Problem) from ``centre`` [F], growing with the square of the distance."""

    centre: Floats
    strength: float


def expected_errors(
    problem: Problem, weights: Floats, sharpness: float, counts: Optional[Floats] = None
) -> tuple[float, Floats, Floats]:
    """The expected word errors at ``weights`` [F], their gradient [F], second derivatives [F, F].

    ``sharpness``: what totals are multiplied by before they become posteriors. ``counts`` [U]: how
    often each utterance counts (default: once).
    """
    mass, expected = _posteriors(problem, weights, sharpness)
    excess = mass * (problem.errors - expected[:, None])  # [U, H], sums to 0 in each list
    if counts is not None:
        expected, excess = counts * expected, counts[:, None] * excess
    mean = np.einsum("uh,uhf->uf", mass, problem.scores)
    centred = problem.scores - mean[:, None]
    gradient = sharpness * np.einsum("uh,uhf->f", excess, centred)
    weighted = excess[..., None] * centred
    second = sharpness**2 * np.tensordot(weighted, centred, axes=((0, 1), (0, 1)))
    return float(expected.sum()), gradient, second


def expected_each(problem: Problem, weights: Floats, sharpness: float) -> Floats:
    """The expected word errors of each list [U] at ``weights`` [F]."""
    return _posteriors(problem, weights, sharpness)[1]


def _posteriors(problem: Problem, weights: Floats, sharpness: float) -> tuple[Floats, Floats]:
    """The posteriors of the hypotheses [U, H] and the expected word errors of each list [U]."""
    usable = problem.usable
    totals = np.where(usable, sharpness * (problem.scores @ weights), -np.inf)
    top = totals.max(axis=1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    mass = np.where(usable, np.exp(totals - top), 0.0)
    mass[:, 0] = np.where(usable.any(axis=1), mass[:, 0], 1.0)  # as ``chosen_errors``: the first
    mass /= mass.sum(axis=1, keepdims=True)
    return mass, (mass * problem.errors).sum(axis=1)


class Mixtures:
    """Weights that put rescoring LMs into the place of a part of the first pass's LM.

    The first pass's LM weight is shared out between its LM and the K rescoring LMs, in steps of a
    20th (K = 1), a 10th (2) or a fifth. Where the first pass has no LM score, or gives it no
    weight, shares of up to twice the weight that makes an LM vary as the acoustic score does. The
    word bonus is ``start``'s and up to half a unit (see Problem) more or less, in steps of a 20th.
    ``start`` [F] are the first pass's own weights; its acoustic weight stays.
    """

    def __init__(self, problem: Problem, start: Floats, sharpness: float) -> None:
        n_lms = len(start) - 3
        own = float(start[1]) if problem.high[1] > 0 else 0.0
        steps = {1: 20, 2: 10}.get(n_lms, 5)
        self._weights = []
        for more in sorted(range(-10, 11), key=abs):
            for shares in _compositions(steps, n_lms + 1):
                mixed = start.copy()
                given = np.array(shares[1:]) / steps
                mixed[1] = own * shares[0] / steps
                mixed[2:-1] = given * (own if own > 0 else 2.0 * problem.unit[2:-1])
                mixed[-1] += more / 20 * problem.unit[-1]
                self._weights.append(np.clip(mixed, problem.low, problem.high))
        rows = (expected_each(problem, one, sharpness) for one in self._weights)
        shape = len(self._weights), len(problem.words)
        self._errors: Union[Floats, Spool[Floats]]  # [M, U]
        if 8 * shape[0] * shape[1] > IN_MEMORY:
            self._errors = Spool(rows)
        else:
            self._errors = np.empty(shape)
            for place, row in enumerate(rows):
                self._errors[place] = row

    def best(self, counts: Floats) -> Floats:
        """The mixture [F] with the fewest expected errors where utterances count ``counts`` [U]
        times; of equally good ones the one with the usual word bonus, then the one that gives the
        LMs least."""
        if isinstance(self._errors, Spool):
            sums = np.array([row @ counts for row in self._errors])
        else:
            sums = self._errors @ counts
        return self._weights[int(np.argmin(np.round(sums, 9)))]


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to write ``total`` as a sum of ``parts`` numbers, the largest first ones first."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)


def search(
    problem: Problem,
    start: Floats,
    sharpness: float,
    pull: Pull,
    counts: Optional[Floats] = None,
) -> Floats:
    """The weights [F] at a (local) minimum of expected errors and penalty, found from ``start``.

    Newton steps with the size of the curvature in each direction, within the limits; halved while
    they do not lower the objective. Same input, same result.
    """
    free = problem.free
    unit = problem.unit[free]
    words = float(problem.words.sum() if counts is None else counts @ problem.words)
    stiffness = pull.strength * max(words, 1.0)

    def at(weights: Floats) -> tuple[float, Floats, Floats]:
        """Objective, gradient and second derivatives in units, over the free weights."""
        value, gradient, second = expected_errors(problem, weights, sharpness, counts)
        away = (weights - pull.centre)[free] / unit
        value += stiffness * float(away @ away)
        second = second[np.ix_(free, free)] * np.outer(unit, unit)
        slope = gradient[free] * unit + 2.0 * stiffness * away
        return value, slope, second + 2.0 * stiffness * np.eye(len(free))

    weights = np.clip(start, problem.low, problem.high)
    value, slope, second = at(weights)
    for _ in range(STEPS):
        inside = ~(
            ((weights[free] <= problem.low[free]) & (slope > 0))
            | ((weights[free] >= problem.high[free]) & (slope < 0))
        )
        if not inside.any() or not np.abs(slope[inside]).max() > 1e-6 * max(value, 1.0):
            break
        step = np.zeros(len(free))
        step[inside] = _newton(slope[inside], second[np.ix_(inside, inside)])
        for _ in range(20):
            trial = weights.copy()
            trial[free] -= step * unit
            trial = np.clip(trial, problem.low, problem.high)
            new = at(trial)
            if new[0] < value:
                break
            step *= 0.5
        else:
            break
        gained = value - new[0]
        weights, (value, slope, second) = trial, new
        if gained < 1e-9 * max(value, 1.0):
            break
    return weights


def _newton(slope: Floats, second: Floats) -> Floats:
    """The step to subtract: along each axis of the curvature, slope over its size; half a unit at
    most."""
    sizes, axes = np.linalg.eigh(second)
    floor = 1e-3 * max(float(np.abs(sizes).max()), 1e-12)
    step: Floats = axes @ ((axes.T @ slope) / np.maximum(np.abs(sizes), floor))
    length = float(np.sqrt(step @ step))
    return step * min(1.0, 0.5 / length) if length > 0 else step
