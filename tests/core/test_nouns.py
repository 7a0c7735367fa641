"""Hypotheses, score weights, look-up."""

from __future__ import annotations

import doctest
import math
import pickle

import pytest

import asrprune.core.tables
import asrprune.core.weights
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.tables import lookup
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError


@pytest.mark.parametrize("module", [asrprune.core.tables, asrprune.core.weights])
def test_doctests(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


def test_empty_hypothesis_has_no_words() -> None:
    assert Hypothesis("").words == ()
    assert Hypothesis("a").words == ("a",)


@pytest.mark.parametrize("text", [" a", "a ", "a  b", "a\tb", "\n"])
def test_untidy_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="white space"):
        Hypothesis(text)


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
