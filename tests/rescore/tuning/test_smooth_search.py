"""The smooth objective against sums over hypotheses, finite differences and a grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asrprune.core.weights import ScoreWeights
from asrprune.rescore.tuning import smooth_search
from asrprune.rescore.tuning.problem import Limits, make_problem
from asrprune.rescore.tuning.smooth_search import (
    Mixtures,
    Pull,
    expected_each,
    expected_errors,
    search,
)
from tests.rescore.tuning.test_tune import planted

START = ScoreWeights(1.0, 1.0)


HALF = ScoreWeights(1.0, 1.0, (0.5,))


def problem_of(weights=HALF, **kwargs):
    lists, refs = planted(weights, lms=len(weights.lm), **kwargs)
    return make_problem(lists, refs, START, Limits(), "lists")


def by_hand(problem, weights, sharpness, counts):
    total = 0.0
    for row in range(len(problem.words)):
        scores = sharpness * (problem.scores[row] @ weights)
        mass = np.exp(scores - scores.max())
        total += counts[row] * float(mass @ problem.errors[row] / mass.sum())
    return total


def test_expected_errors_and_their_derivatives():
    problem, _ = problem_of(utterances=7, depth=5)
    weights, sharpness = np.array([1.0, 0.7, 0.4, -0.3]), 0.2
    counts = np.array([1.0, 0, 2, 1, 1, 3, 1])
    value, gradient, second = expected_errors(problem, weights, sharpness, counts)
    assert value == pytest.approx(by_hand(problem, weights, sharpness, counts))
    step = 1e-5
    for column, axis in enumerate(np.eye(4) * step):
        up, down = (
            expected_errors(problem, weights + side * axis, sharpness, counts) for side in (1, -1)
        )
        assert gradient[column] == pytest.approx((up[0] - down[0]) / (2 * step), rel=1e-5, abs=1e-7)
        assert second[column] == pytest.approx((up[1] - down[1]) / (2 * step), rel=1e-4, abs=1e-5)


def test_an_utterance_without_a_usable_hypothesis_counts_its_first():
    problem, _ = problem_of(utterances=3, depth=4)
    problem.usable[1] = False
    value, gradient, _ = expected_errors(problem, np.array([1.0, 1, 1, 0]), 50.0)
    others = expected_errors(problem, np.array([1.0, 1, 1, 0]), 50.0, np.array([1.0, 0.0, 1.0]))
    assert value == pytest.approx(others[0] + problem.errors[1, 0])
    assert np.isfinite(gradient).all()


def test_the_search_finds_what_a_grid_finds():
    problem, _ = problem_of(ScoreWeights(1.0, 0.6, (0.8,)), utterances=12, depth=8)
    problem.low[-1] = problem.high[-1] = 0.0  # two free weights
    sharpness = 0.3
    pull = Pull(np.array([1.0, 0.5, 0.5, 0.0]), 0.001)

    def objective(weights):
        away = ((weights - pull.centre) / problem.unit)[problem.free]
        penalty = pull.strength * problem.words.sum() * float(away @ away)
        return expected_errors(problem, weights, sharpness)[0] + penalty

    found = search(problem, pull.centre, sharpness, pull)
    grid = [
        np.array([1.0, f, g, 0.0]) for f in np.linspace(0, 2, 41) for g in np.linspace(0, 2, 41)
    ]
    assert objective(found) <= min(map(objective, grid)) + 1e-6
    assert (found[0], found[-1]) == (1.0, 0.0)


def test_a_strong_pull_keeps_the_centre_and_limits_hold():
    problem, _ = problem_of(ScoreWeights(1.0, 0.0, (2.0,)), utterances=12)
    centre = np.array([1.0, 0.4, 0.3, 0.1])
    held = search(problem, centre, 0.3, Pull(centre, 1e6))
    assert np.allclose(held, centre, atol=1e-3)
    free = search(problem, centre, 0.3, Pull(centre, 0.0))
    assert (free >= problem.low).all()
    assert (free <= problem.high).all()
    assert free[1] < 0.2  # the planted weight is 0
    assert free[2] > 1.0


@pytest.mark.parametrize("lms", [1, 2, 3])
def test_mixtures_share_out_the_first_pass_lm(lms):
    weights = ScoreWeights(1.0, 0.0, tuple(1.0 if k == lms - 1 else 0.0 for k in range(lms)))
    problem, begin = problem_of(weights, utterances=30)
    mixtures = Mixtures(problem, begin, 0.5)
    found = mixtures.best(np.ones(30))
    assert found[1:-1].sum() == pytest.approx(1.0)
    assert found[-2] >= 0.8  # it is the one that is right
    assert found[0] == 1.0
    assert abs(found[-1]) <= 0.5 * problem.unit[-1] + 1e-9
    biased, _ = problem_of(replace(weights, word_bonus=0.3 * problem.unit[-1]), utterances=30)
    assert Mixtures(biased, begin, 0.5).best(np.ones(30))[-1] > found[-1]
    first = mixtures.best(np.zeros(30))  # nothing to tell them apart: least for the LMs
    assert first.tolist() == begin.tolist()


@pytest.mark.parametrize("in_memory", [0, 1 << 25])
def test_mixtures_are_the_same_wherever_their_errors_are(in_memory, monkeypatch):
    problem, begin = problem_of(ScoreWeights(1.0, 0.0, (1.0,)), utterances=30)
    expected = np.array([expected_each(problem, one, 0.5) for one in _mixed(problem, begin)])
    monkeypatch.setattr(smooth_search, "IN_MEMORY", in_memory)
    mixtures = Mixtures(problem, begin, 0.5)
    for seed in range(5):
        counts = np.random.default_rng(seed).integers(0, 3, 30).astype(np.float64)
        best = _mixed(problem, begin)[int(np.argmin(np.round(expected @ counts, 9)))]
        assert mixtures.best(counts).tolist() == best.tolist()


def _mixed(problem, begin):
    """The mixtures of one LM, as ``Mixtures`` says them."""
    found = []
    for more in sorted(range(-10, 11), key=abs):
        for share in range(21):
            bonus = begin[3] + more / 20 * problem.unit[3]
            mixed = np.array([begin[0], begin[1] * (20 - share) / 20, begin[1] * share / 20, bonus])
            found.append(np.clip(mixed, problem.low, problem.high))
    return found


def test_without_a_first_pass_lm_the_lm_gets_its_own_scale():
    lists, refs = planted(ScoreWeights(1.0, 0.0, (0.7,)), utterances=30)
    for one in lists:
        one.first_lm[:] = np.nan
    problem, begin = make_problem(lists, refs, ScoreWeights(1.0, 0.0), Limits(), "lists")
    found = Mixtures(problem, begin, 0.5).best(np.ones(30))
    assert found[1] == 0.0
    assert found[2] == pytest.approx(0.7, abs=0.2)
