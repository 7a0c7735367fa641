"""Hypotheses, score weights, look-up."""

from __future__ import annotations

import doctest
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import asrprune.core.tables
import asrprune.core.weights
from asrprune.core.hypothesis import Hypothesis, NBest, first_pass_scores
from asrprune.core.tables import lookup
from asrprune.core.weights import ScoreWeights, UnknownScoreError, weighted_sum
from asrprune.errors import InputError


@pytest.mark.parametrize("module", [asrprune.core.tables, asrprune.core.weights])
def test_doctests(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


def test_empty_hypothesis_has_no_words() -> None:
    assert Hypothesis("").words == ()
    assert Hypothesis("a").words == ("a",)


@pytest.mark.parametrize("text", [" a", "a ", "a  b", "a\tb", "a\u00a0b", "\n"])
def test_untidy_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="has white space other than single spaces between words"):
        Hypothesis(text)


@pytest.mark.parametrize("text", [None, ["a"], b"a"])
def test_text_is_a_string(text: Any) -> None:
    with pytest.raises(TypeError, match=r"text is .*; expected words"):
        Hypothesis(text)


@pytest.mark.parametrize("value", ["-1", [1.0]])
def test_a_score_is_a_number(value: Any) -> None:
    with pytest.raises(TypeError, match=r"acoustic score is .*; expected a number or None"):
        Hypothesis("a", acoustic=value)


@pytest.mark.parametrize("hyps", [None, "a cat", ["a cat"], Hypothesis("a"), [Hypothesis("a"), 1]])
def test_a_list_is_of_hypotheses(hyps: Any) -> None:
    with pytest.raises(TypeError, match=r"utterance u: hyps are .*; expected hypotheses"):
        NBest("u", hyps)


def test_hypotheses_may_come_from_anything() -> None:
    """What can be read once is kept: it would be empty the second time."""
    hyps = (Hypothesis("a"), Hypothesis("b"))
    nbest = NBest("u", iter(hyps))  # type: ignore[arg-type]
    assert nbest.hyps == nbest.hyps == hyps
    assert NBest("u", list(hyps)) == nbest  # type: ignore[arg-type]
    assert hash(NBest("u", list(hyps))) == hash(nbest)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="utterance id is 7; expected a string"):
        NBest(7, hyps)  # type: ignore[arg-type]


def test_half_a_character_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'caf\\ud800' has half a surrogate pair"):
        Hypothesis("caf\ud800")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_impossible_scores_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="acoustic score is"):
        Hypothesis("a", acoustic=value)


def test_minus_infinity_is_a_score() -> None:
    assert Hypothesis("a", lm=-math.inf).lm == -math.inf


@pytest.mark.parametrize("utt", ["", "a b", " a"])
def test_bad_utterance_ids_are_refused(utt: str) -> None:
    with pytest.raises(ValueError, match="utterance id"):
        NBest(utt, ())


def test_digest_depends_on_texts_and_order_only() -> None:
    one = NBest("u", (Hypothesis("a b"), Hypothesis("c")))
    other_scores = NBest("v", (Hypothesis("a b", acoustic=-1.0), Hypothesis("c")))
    swapped = NBest("u", (Hypothesis("c"), Hypothesis("a b")))
    assert one.digest == other_scores.digest
    assert one.digest != swapped.digest
    assert NBest("u", ()).digest != NBest("u", (Hypothesis(""),)).digest


def test_weight_zero_leaves_its_term_out() -> None:
    weights = ScoreWeights(acoustic=1.0, first_lm=0.0, lm=(0.0,), word_bonus=0.0)
    assert weights.total(-3.0, None, [-math.inf], 4) == -3.0


def test_minus_infinity_never_wins() -> None:
    weights = ScoreWeights(acoustic=1.0, first_lm=-0.5, lm=(-2.0,))
    assert weights.total(-3.0, -math.inf, [-1.0], 4) == -math.inf
    assert weights.total(-3.0, -1.0, [-math.inf], 4) == -math.inf


WEIGHT = st.sampled_from([-0.3, 0.0, 0.1, 1.0, 6.5])
SCORE = st.one_of(st.just(-math.inf), st.floats(-1e6, 1e6))


@given(
    st.lists(st.tuples(SCORE, SCORE, SCORE, st.integers(0, 40)), max_size=6),
    st.tuples(WEIGHT, WEIGHT, WEIGHT, WEIGHT),
)
def test_totals_add_the_terms_in_the_order_of_the_formula(
    rows: list[tuple[float, float, float, int]], given: tuple[float, float, float, float]
) -> None:
    a, f, g, bonus = given
    weights = ScoreWeights(a, f, (g,), bonus)
    expected = []
    for acoustic, first_lm, lm, n_words in rows:
        total = bonus * n_words
        for weight, score in ((a, acoustic), (f, first_lm), (g, lm)):
            if weight:
                total = -math.inf if score == -math.inf else total + weight * score
        expected.append(total)
    columns = np.array(rows, float).reshape(-1, 4).T
    found = weights.totals(columns[0], columns[1], columns[2:3], columns[3])
    assert found.tolist() == expected
    assert [weights.total(one, two, [three], n) for one, two, three, n in rows] == expected


def test_an_unknown_score_is_named_by_term_and_hypothesis() -> None:
    hyps = [Hypothesis("a b", -1.0, -2.0), Hypothesis("", -3.0), Hypothesis("c", None, None)]
    acoustic, first_lm, n_words = first_pass_scores(hyps)
    assert n_words.tolist() == [2.0, 0.0, 1.0]
    with pytest.raises(UnknownScoreError) as caught:
        ScoreWeights(0.0, 0.5).totals(acoustic, first_lm, (), n_words)
    assert (caught.value.term, caught.value.index, caught.value.weight) == ("first_lm", 1, 0.5)
    with pytest.raises(UnknownScoreError, match="acoustic score is unknown"):
        ScoreWeights().totals(acoustic, first_lm, (), n_words)
    assert ScoreWeights(0.0, 0.0, (), 0.5).totals(acoustic, first_lm, (), n_words)[1] == 0.0


def test_a_weighted_sum_leaves_out_what_has_no_weight() -> None:
    start = np.array([1.0, 2.0])
    scores = [np.array([np.nan, -np.inf]), np.array([-4.0, -np.inf])]
    assert weighted_sum(start, [0.0, -0.5], scores).tolist() == [3.0, -math.inf]
    assert weighted_sum(start, [], []).tolist() == [1.0, 2.0]


def test_one_number_is_no_weights_of_lms() -> None:
    with pytest.raises(
        ValueError, match=r"lm is 0\.5; expected the weights of the LMs, as \(0\.5,\)"
    ):
        ScoreWeights(lm=0.5)  # type: ignore[arg-type]


def test_unknown_score_with_a_weight_is_an_error() -> None:
    with pytest.raises(ValueError, match="first_lm score is unknown"):
        ScoreWeights().total(-3.0, None, [], 4)
    with pytest.raises(ValueError, match="1 LM scores for 0"):
        ScoreWeights().total(-3.0, -1.0, [-2.0], 4)
    with pytest.raises(ValueError, match="NaN"):
        ScoreWeights(lm=(1.0,)).total(-3.0, -1.0, [math.nan], 4)
    with pytest.raises(ValueError, match="finite"):
        ScoreWeights(acoustic=math.inf)


def test_lookup_without_a_close_match_lists_all() -> None:
    with pytest.raises(ValueError, match=r"unknown axis 'zzz'; known: alpha, beta"):
        lookup({"alpha": 1, "beta": 2}, "zzz", "axis")


def test_input_error_is_one_line_and_pickles() -> None:
    error = InputError("f.txt", 3, "utterance u:\n two\tids", "one")
    assert str(error) == "f.txt:3: utterance u: two ids; expected one"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
