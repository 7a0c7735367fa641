"""How two sets of scores are compared: differences, ranks and word errors, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.weights import ScoreWeights
from asrprune.rescore.bench.agreement import compare_scores

LISTS = [
    NBest(
        "u1",
        (Hypothesis("a b", -1.0), Hypothesis("a c", -2.0), Hypothesis("d", -9.0)),
        ref="a c",
    ),
    NBest("u2", (Hypothesis("x", -1.0),), ref="x y"),
    NBest("u3", (), ref="z"),
]
WEIGHTS = ScoreWeights(acoustic=1.0, first_lm=0.0, lm=(1.0,))


def scores(*first, second=-3.0):
    return [np.array(first), np.array([second]), np.zeros(0)]


def test_equal_scores_agree():
    found = compare_scores(LISTS, scores(-3.0, -5.0, -4.0), scores(-3.0, -5.0, -4.0), WEIGHTS)
    assert (found.max_difference, found.mean_difference, found.bias) == (0.0, 0.0, 0.0)
    assert (found.hypotheses, found.lists, found.changed_best, found.moved) == (4, 1, 0, 0)
    assert found.wer is not None
    assert found.wer.difference_percent == 0.0


def test_differences_and_ranks_by_lm_score():
    found = compare_scores(LISTS, scores(-3.0, -5.0, -4.0), scores(-4.5, -5.0, -4.0, second=-2.0))
    assert found.max_difference == 1.5
    assert found.mean_difference == pytest.approx((1.5 + 1.0) / 4)
    assert found.bias == pytest.approx((-1.5 + 1.0) / 4)
    assert (found.changed_best, found.moved) == (1, 2)
    assert found.wer is None


def test_the_wer_is_that_of_the_totals():
    found = compare_scores(LISTS, scores(-3.0, -5.0, -4.0), scores(-5.0, -3.0, -4.0), WEIGHTS)
    assert found.changed_best == 1
    assert found.wer is not None  # 1 + 1 + 1 errors, then 0 + 1 + 1, of 5 words
    assert found.wer.first.wer_percent == pytest.approx(60.0)
    assert found.wer.difference_percent == pytest.approx(-20.0)


def test_one_minus_infinity_is_an_infinite_difference():
    worst = scores(-np.inf, -5.0, -4.0)
    assert compare_scores(LISTS, worst, worst).max_difference == 0.0
    found = compare_scores(LISTS, scores(-3.0, -5.0, -4.0), worst)
    assert found.max_difference == np.inf
    assert found.bias == 0.0
    assert found.changed_best == 1


def test_without_lists_or_references():
    nothing = compare_scores([], [], [], WEIGHTS)
    assert (nothing.hypotheses, nothing.max_difference, nothing.wer) == (0, 0.0, None)
    bare = [NBest("u", (Hypothesis("a", -1.0),))]
    assert compare_scores(bare, [np.zeros(1)], [np.zeros(1)], WEIGHTS).wer is None
    with pytest.raises(ValueError, match="1 LM scores for 2 LM weights"):
        compare_scores(LISTS, scores(0, 0, 0), scores(0, 0, 0), ScoreWeights(lm=(1.0, 1.0)))
