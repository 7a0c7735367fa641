"""What rescoring on the way asks of its LM, and what it makes of the answers, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.weights import ScoreWeights
from asrprune.lm.scoring.early import PartialScores
from asrprune.rescore.nbest.early import CascadeSummary, rescore_cascade, rescore_early
from asrprune.rescore.nbest.rescore import RescoringSummary
from asrprune.rescore.nbest.scored_list import ScoredList

LM = {"a": -1.0, "b": -2.0, "c": -3.0, "d": -4.0}


class Asked:
    """An LM, and an EarlyScorer, that scores texts as LM says and keeps what it was asked."""

    def score_lists(self, lists, others=None, weight=None, guesses=None):
        self.lists, self.others, self.weight, self.guesses = lists, others, weight, guesses
        values = [np.array([LM[text] for text in texts]) for texts in lists]
        if others is None:
            return values
        return [PartialScores(one, np.ones(len(one), bool)) for one in values]


def scored(*lms):
    """Hypotheses a to d; acoustic 0, -10, -20, -30, first-pass LM -1, -2, -3, -4."""
    hyps = tuple(Hypothesis(text, -10.0 * n, -1.0 - n) for n, text in enumerate("abcd"))
    first_lm = np.array([hyp.lm for hyp in hyps])
    acoustic = np.array([hyp.acoustic for hyp in hyps])
    lm = np.array(lms, np.float64).reshape(len(lms), 4)
    return ScoredList(NBest("u", hyps), acoustic, first_lm, lm, np.ones(4))


def test_the_last_weight_is_that_of_the_lm_that_is_asked():
    """The LMs before it count in the rest of the total, each under its own weight."""
    one, two = [-12.0, -1.0, -4.0, -2.0], [-100.0, -200.0, -50.0, -1.0]
    weights = ScoreWeights(0.5, 0.25, (3.0, 0.125, 7.0), -1.5)
    lm = Asked()
    (found,) = rescore_early([scored(one, two)], lm, weights, RescoringSummary())
    rest = [0.5 * -10 * n + 0.25 * (-1 - n) + 3 * one[n] + 0.125 * two[n] - 1.5 for n in range(4)]
    assert lm.weight == 7.0
    assert lm.others[0].tolist() == pytest.approx(rest)
    assert lm.guesses[0].tolist() == pytest.approx([x + 7 * (-1 - n) for n, x in enumerate(rest)])
    total = dict(zip("abcd", (x + 7 * LM[text] for x, text in zip(rest, "abcd"))))
    order = [hyp.text for hyp in found.nbest.hyps]
    assert order == sorted("abcd", key=lambda text: -total[text])
    assert order != ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("margin", "asked"),
    [(0.0, ""), (1.9, ""), (2.0, "ab"), (3.9, "ab"), (4.0, "abc"), (6.0, "abcd"), (np.inf, "abcd")],
)
def test_a_margin_is_in_units_of_the_small_lms_total(margin, asked):
    """Small totals 0, -2, -4 and -6: who is within the margin of the best is asked, ends count."""
    small = ScoreWeights(0.0, 0.0, (2.0,), 0.0)
    large, cascade = Asked(), CascadeSummary()
    joined = scored([0.0, -1.0, -2.0, -3.0])
    summary = RescoringSummary()
    weights = ScoreWeights(0.0, 0.0, (-1.0,), 0.0)  # the large LM turns the order round
    args = ([joined], small, large, weights, margin, summary, cascade)
    (found,) = rescore_cascade(*args)
    assert "".join(large.lists[0]) == asked
    assert cascade == CascadeSummary(1, len(asked) > 0, 4, len(asked))
    order = "".join(hyp.text for hyp in found.nbest.hyps)
    assert order == asked[::-1] + "abcd"[len(asked) :]


def test_lms_before_the_cascade_count_under_both_weights():
    other, small = [-1.0, -9.0, -2.0, -3.0], [-4.0, -1.0, -3.0, -2.0]
    first, second = ScoreWeights(0.0, 0.0, (1.0, 2.0), 0.0), ScoreWeights(0.0, 0.0, (0.5, 4.0), 0.0)
    lists = [scored(other, small)]
    (found,) = rescore_cascade(
        lists, first, Asked(), second, 2.5, RescoringSummary(), CascadeSummary()
    )
    # small totals -9, -11, -8, -7; in the race a, c and d: large totals -4.5, -13, -17.5
    assert [hyp.text for hyp in found.nbest.hyps] == ["a", "c", "d", "b"]
    assert lists[0].lm.tolist() == [other, small]  # the lists are left as they were
    assert replace(lists[0].nbest, hyps=found.nbest.hyps) == found.nbest
