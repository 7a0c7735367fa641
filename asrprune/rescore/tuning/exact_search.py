"""Weights with the fewest word errors, counted exactly: line searches from several starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np

from asrprune.rescore.nbest.scored_list import Floats
from asrprune.rescore.tuning.line_search import error_profile
from asrprune.rescore.tuning.problem import Problem


def fewest_errors(
    problem: Problem, begin: Floats, seed: int, extra_starts: int, rounds: int
) -> Floats:
    """The best weights of the descents from all starting points, [F].

    ``extra_starts`` random ones are drawn with ``seed``; ``rounds``: most passes over all
    directions from one start. Of equally good results the one nearest to ``begin`` is taken, and
    each weight is put into the middle of the stretch where the errors stay the same.
    """
    random = np.random.default_rng(seed)
    free = problem.free
    starts = [begin]
    for scale in (0.25, 0.5, 1.0):  # first pass and LMs mixed in simple proportions
        mixed = begin.copy()
        mixed[2:-1] = scale * problem.unit[2:-1]
        starts.append(mixed)
    for _ in range(extra_starts):
        drawn = begin.copy()
        drawn[free] = random.exponential(1.0, len(free)) * problem.unit[free]
        if free.size and free[-1] == len(begin) - 1:
            drawn[-1] *= random.choice((-1.0, 1.0))
        starts.append(drawn)
    directions = [np.eye(len(begin))[column] for column in free]
    directions += [
        np.where(problem.high > problem.low, random.normal(size=len(begin)) * problem.unit, 0.0)
        for _ in range(2 * len(free))
    ]
    best: Optional[tuple[int, float, Floats]] = None
    for point in starts:
        point = np.clip(point, problem.low, problem.high)
        point, errors = _descend(problem, point, directions, rounds)
        change = float(np.sum(((point - begin) / problem.unit) ** 2))
        if best is None or (errors, change) < best[:2]:
            best = (errors, change, point)
    assert best is not None
    return _centre(problem, best[2])


def _descend(
    problem: Problem, point: Floats, directions: Sequence[Floats], rounds: int
) -> tuple[Floats, int]:
    """Line searches until none removes an error."""
    errors = problem.count(point)
    for _ in range(rounds):
        before = errors
        for direction in directions:
            low, high = _limits(problem, point, direction)
            if not low < high:
                continue
            slopes = np.where(problem.usable, problem.scores @ direction, 0.0)
            profile = error_profile(problem.totals(point), slopes, problem.errors, low, high)
            fewest, left, right = profile.best()
            if fewest < errors:
                moved = np.clip(point + 0.5 * (left + right) * direction, problem.low, problem.high)
                counted = problem.count(moved)
                if counted < errors:  # rounding may spoil a very narrow stretch
                    point, errors = moved, counted
        if errors == before:
            break
    return point, errors


def _limits(problem: Problem, point: Floats, direction: Floats) -> tuple[float, float]:
    """The range of t in which ``point + t * direction`` stays within the limits."""
    moving = direction != 0.0
    to_low = (problem.low - point)[moving] / direction[moving]
    to_high = (problem.high - point)[moving] / direction[moving]
    ends = np.sort(np.stack((to_low, to_high)), axis=0)
    return float(ends[0].max(initial=-np.inf)), float(ends[1].min(initial=np.inf))


def _centre(problem: Problem, point: Floats) -> Floats:
    """Each free weight in the middle of its stretch of equal errors, if no error is added."""
    errors = problem.count(point)
    for column in problem.free:
        direction = np.eye(len(point))[column]
        low, high = _limits(problem, point, direction)
        if not low < high:
            continue
        slopes = np.where(problem.usable, problem.scores @ direction, 0.0)
        profile = error_profile(problem.totals(point), slopes, problem.errors, low, high)
        left, right = profile.around(0.0)
        if left == low or right == high:
            continue  # flat up to a limit: there is no middle
        moved = point + 0.5 * (left + right) * direction
        if problem.count(moved) == errors:
            point = moved
    return point
