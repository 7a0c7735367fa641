"""Combining scores and choosing: the first pass comes back at LM weight 0."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.rescore.nbest.rescore import RescoringSummary, rescore
from asrprune.rescore.nbest.scored_list import scored_lists, totals
from asrprune.rescore.scores_file import Scores, UtteranceScores

NUMBER = st.floats(-100, 100)
WEIGHT = st.sampled_from([0.0, 0.5, 1.0, 3.25])


def scores_of(nbest, values, lm="lm"):
    one = UtteranceScores(nbest.utt, nbest.digest, np.array(values, float))
    return Scores("scores", {"lm": lm}, {nbest.utt: one})


def choose(nbest, weights, *values):
    summary = RescoringSummary()
    scores = [scores_of(nbest, lm) for lm in values]
    (result,) = rescore(scored_lists([nbest], scores), weights, summary)
    return result, summary


@given(st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=1, max_size=12), st.data())
def test_totals_are_those_of_score_weights(rows, data):
    words = ["a", "a b", "", "c d e"]
    hyps = tuple(Hypothesis(words[i % 4], a, f) for i, (a, f, _) in enumerate(rows))
    nbest = NBest("u", hyps)
    weights = ScoreWeights(*(data.draw(WEIGHT) for _ in range(2)), (data.draw(WEIGHT),), -0.75)
    (scored,) = scored_lists([nbest], [scores_of(nbest, [lm for *_, lm in rows])])
    expected = [
        weights.total(hyp.acoustic, hyp.lm, [row[2]], len(hyp.words))
        for hyp, row in zip(hyps, rows)
    ]
    assert totals(scored, weights).tolist() == expected


@given(st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=12))
def test_lm_weight_zero_is_the_first_pass(rows):
    first_pass = ScoreWeights(1.0, 6.5, (), -0.25)
    hyps = [Hypothesis(f"w{i}", a, f) for i, (a, f) in enumerate(rows)]
    hyps.sort(key=lambda h: -first_pass.total(h.acoustic, h.lm, [], 1))  # stable, as a decoder
    nbest = NBest("u", tuple(hyps))
    result, summary = choose(nbest, ScoreWeights(1.0, 6.5, (0.0,), -0.25), [-math.inf] * len(hyps))
    assert result.nbest == nbest
    assert not result.changed
    assert summary.changed == 0


def test_equal_totals_keep_the_rank():
    nbest = NBest("u", tuple(Hypothesis(text, -1.0, 0.0) for text in ("b", "a", "c")))
    result, _ = choose(nbest, ScoreWeights(1.0, 1.0, (1.0,)), [-2.0, -2.0, -1.0])
    assert [hyp.text for hyp in result.nbest.hyps] == ["c", "b", "a"]
    assert result.changed


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_an_unscorable_hypothesis_never_wins(weight):
    nbest = NBest("u", tuple(Hypothesis(text, 0.0, 0.0) for text in "ab"))
    result, _ = choose(nbest, ScoreWeights(1.0, 1.0, (weight,)), [-math.inf, -50.0])
    assert result.best == "b"
    result, summary = choose(nbest, ScoreWeights(1.0, 1.0, (weight,)), [-math.inf, -math.inf])
    assert result.best == "a"
    assert summary.unscored == 1


def test_an_empty_list_gives_the_empty_hypothesis():
    result, summary = choose(NBest("u", ()), ScoreWeights(lm=(1.0,)), [])
    assert result.best == ""
    assert (summary.utterances, summary.empty_lists, summary.changed) == (1, 1, 0)


def test_a_single_hypothesis_needs_no_scores():
    silent = NBest("u", (Hypothesis("", acoustic=None, lm=-2.0),))
    result, summary = choose(silent, ScoreWeights(lm=(1.0,)), [-1.0])
    assert result.best == ""
    assert summary.unscored == 0


def test_an_unknown_score_is_an_error_only_where_it_counts():
    nbest = NBest("utt7", (Hypothesis("a", -1.0), Hypothesis("b", -2.0, -3.0)))
    with pytest.raises(InputError, match="utt7: no first_lm score of hypothesis 1"):
        choose(nbest, ScoreWeights(1.0, 1.0))
    assert choose(nbest, ScoreWeights(1.0, 0.0))[0].best == "a"
    with pytest.raises(ValueError, match="1 LM scores for 0 LM weights"):
        choose(nbest, ScoreWeights(1.0, 0.0), [0.0, 0.0])
