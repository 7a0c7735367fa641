"""Tuning: exact line searches, planted optima, and the sets that are refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.rescore.nbest.scored_list import ScoredList, totals
from asrprune.rescore.tuning.line_search import error_profile
from asrprune.rescore.tuning.problem import word_errors
from asrprune.rescore.tuning.tune import OBJECTIVES, TuneOptions, tune
from asrprune.rescore.weights_file import (
    WeightsFile,
    names_test_set,
    read_any_weights,
    read_first_pass,
    read_weights,
    refuse_test_set,
    set_hashes,
    tuned_on,
    write_weights,
)
from tests.quick import slow

VALUES = st.integers(-4, 4).map(float)


@given(
    st.integers(1, 4).flatmap(
        lambda depth: st.lists(
            st.lists(st.tuples(VALUES, VALUES, st.integers(0, 3)), min_size=depth, max_size=depth),
            min_size=1,
            max_size=5,
        )
    ),
    st.data(),
)
def test_the_profile_counts_every_point_of_the_line(rows, data):
    array = np.array(rows, float)
    offsets, slopes, errors = array[..., 0], array[..., 1], array[..., 2].astype(np.int64)
    unusable = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    offsets[unusable, -1], slopes[unusable, -1] = -np.inf, 0.0
    profile = error_profile(offsets, slopes, errors, -9, 9)
    assert profile.bounds[0] == -9
    assert profile.bounds[-1] == 9
    middles = (profile.bounds[1:] + profile.bounds[:-1]) / 2
    for place, found, width in zip(middles, profile.errors, np.diff(profile.bounds)):
        if width > 1e-9:
            best = (offsets + place * slopes).max(axis=1, keepdims=True)
            ties = offsets + place * slopes >= best - 1e-9
            low = np.where(ties, errors, 9).min(axis=1).sum()
            high = np.where(ties, errors, -9).max(axis=1).sum()
            assert low <= found <= high
            if (ties.sum(axis=1) == 1).all():
                assert found == low


def planted(weights, seed=0, utterances=60, depth=20, lms=1):
    """Lists in which the total under ``weights`` ranks the hypotheses by their word errors."""
    random = np.random.default_rng(seed)
    lists, refs = [], {}
    for number in range(utterances):
        ref = ["right"] * 12
        errors = random.permutation(depth) % 12
        extra = random.integers(0, 5, depth)
        texts = [
            " ".join(["wrong"] * e + ["right"] * (12 - e) + ["more"] * x)
            for e, x in zip(errors, extra)
        ]
        n_words = np.array([len(text.split()) for text in texts], float)
        first_lm = random.normal(0, 8, depth)
        lm = random.normal(0, 8, (lms, depth))
        wanted = -(errors + extra) * 3.0
        acoustic = wanted - weights.first_lm * first_lm - weights.word_bonus * n_words
        acoustic = acoustic - np.array(weights.lm) @ lm
        hyps = tuple(Hypothesis(t, a, f) for t, a, f in zip(texts, acoustic, first_lm))
        utt = f"u{number}"
        lists.append(ScoredList(NBest(utt, hyps), acoustic, first_lm, lm, n_words))
        refs[utt] = " ".join(ref)
    return lists, refs


def count(lists, refs, weights):
    return sum(
        int(word_errors(refs[one.nbest.utt], one)[np.argmax(totals(one, weights))]) for one in lists
    )


@pytest.mark.parametrize(
    "weights",
    [
        ScoreWeights(1.0, 1.0, (0.5, 2.0), 0.0),
        *slow([ScoreWeights(1.0, 2.0, (3.0,), 1.5), ScoreWeights(1.0, 0.0, (5.0,), -4.0)]),
    ],
)
@pytest.mark.parametrize(("objective", "slack"), [("errors", 0.002), ("expected", 0.04)])
def test_a_planted_optimum_is_found(weights, objective, slack):
    lists, refs = planted(weights, lms=len(weights.lm))
    fewest = count(lists, refs, weights)
    options = TuneOptions(objective=objective, resamples=0)
    found = tune(lists, refs, ScoreWeights(1.0, 1.0), options)
    assert found.errors <= fewest + slack * found.words
    assert found.errors == count(lists, refs, found.weights)
    assert found.errors < 0.4 * found.start_errors
    assert found.weights.acoustic == 1.0
    assert found.wer_percent == pytest.approx(100 * found.errors / (12 * 60))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_same_input_same_result(objective):
    lists, refs = planted(ScoreWeights(1.0, 2.0, (3.0,), 1.5), utterances=10)
    options = TuneOptions(seed=5, starts=4, objective=objective, resamples=9)
    first = tune(lists, refs, ScoreWeights(1.0, 1.0), options)
    assert first == tune(lists, refs, ScoreWeights(1.0, 1.0), options)
    assert first == tune(lists[::-1], refs, ScoreWeights(1.0, 1.0), options)


@pytest.mark.parametrize("hyps", [(Hypothesis(""),), ()])
def test_a_silent_utterance_changes_nothing_but_its_errors(hyps):
    lists, refs = planted(ScoreWeights(1.0, 2.0, (3.0,), 1.5), utterances=10)
    options = TuneOptions(seed=5, resamples=0)
    without = tune(lists, refs, ScoreWeights(1.0, 1.0), options)
    unknown = np.full(len(hyps), np.nan)
    lm, words = np.full((1, len(hyps)), -3.0), np.zeros(len(hyps))
    lists.append(ScoredList(NBest("z", hyps), unknown, unknown, lm, words))
    found = tune(lists, {**refs, "z": "two words"}, ScoreWeights(1.0, 1.0), options)
    assert found.errors == without.errors + 2
    assert found.words == without.words + 2


def test_what_cannot_help_is_left_alone():
    hyps = (Hypothesis("a", -1.0, -1.0), Hypothesis("b", -2.0, -2.0))
    one = ScoredList(NBest("u", hyps), *np.array([[-1.0, -2.0]] * 2), np.zeros((1, 2)), np.ones(2))
    found = tune([one], {"u": "a"}, ScoreWeights(1.0, 6.5))
    assert found.errors == found.start_errors == 0
    assert found.weights.lm == (0.0,)
    assert found.weights.first_lm == 6.5


def test_an_unscorable_hypothesis_does_not_win():
    hyps = tuple(Hypothesis(text, 0.0, 0.0) for text in ("right", "wrong"))
    lm = np.array([[-math.inf, -3.0]])
    one = ScoredList(NBest("u", hyps), np.zeros(2), np.zeros(2), lm, np.ones(2))
    assert tune([one], {"u": "right"}, ScoreWeights()).errors == 1


def test_without_first_pass_scores_the_lm_is_the_anchor():
    hyps = tuple(Hypothesis(text) for text in ("x y", "a b", "a"))
    nothing = np.full(3, np.nan)
    lm = np.array([[-9.0, -2.0, -1.0]])
    one = ScoredList(NBest("u", hyps), nothing, nothing, lm, np.array([2.0, 2.0, 1.0]))
    found = tune([one], {"u": "a b"}, ScoreWeights(), TuneOptions(objective="errors"))
    assert found.errors == 0
    assert (found.weights.acoustic, found.weights.first_lm, found.weights.lm) == (0.0, 0.0, (1.0,))
    assert found.weights.word_bonus > 1.0


def test_bad_dev_sets_are_refused():
    hyps = (Hypothesis("a", -1.0), Hypothesis("b"))
    acoustic, nothing = np.array([-1.0, np.nan]), np.full(2, np.nan)
    one = ScoredList(NBest("u9", hyps), acoustic, nothing, np.zeros((1, 2)), np.ones(2))
    with pytest.raises(InputError, match="u9: no acoustic score of hypothesis 2"):
        tune([one], {"u9": "a"}, ScoreWeights())
    with pytest.raises(InputError, match="utterance u9 without a reference"):
        tune([one], {}, ScoreWeights())
    with pytest.raises(InputError, match="no hypotheses of utterances with words"):
        tune([], {}, ScoreWeights())
    with pytest.raises(ValueError, match="2 LM weights for 1 LMs"):
        tune([one], {"u9": "a"}, ScoreWeights(lm=(1.0, 1.0)))
    for bad in ({"starts": -1}, {"rounds": 0}, {"largest": 0.0}):
        with pytest.raises(ValueError, match="bad options"):
            TuneOptions(**bad)


def test_weights_come_back_as_written(tmp_path):
    lists = [NBest("u1", (Hypothesis("a"),)), NBest("u2", (Hypothesis("b"),))]
    hashes = set_hashes(lists)
    value = WeightsFile(ScoreWeights(1.0, 2.5, (0.5,), -1.0), ("lm",), hashes, {"seed": 1})
    write_weights(tmp_path / "w.json", value)
    assert read_weights(tmp_path / "w.json") == value
    assert read_any_weights(tmp_path / "w.json") == value
    assert set_hashes(lists[::-1]) == hashes
    assert tuned_on(value, hashes)
    assert tuned_on(value, set_hashes([NBest(one.utt, (Hypothesis("c"),)) for one in lists]))
    assert not tuned_on(value, set_hashes(lists[:1]))
    assert not tuned_on(WeightsFile(ScoreWeights()), hashes)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "null",
        '{"format": "asrprune-weights", "version": 2}',
        '{"weights": {"acoustic": 1, "first_lm": "x", "word_bonus": 0}}',
        '{"weights": {"acoustic": 1, "first_lm": NaN, "word_bonus": 0}}',
        '{"weights": {"acoustic": 1, "first_lm": 1, "word_bonus": 0, "lm": 3}}',
        '{"format": "asrprune-weights", "version": 1, "lms": [],'
        ' "weights": {"acoustic": 1, "first_lm": 1, "word_bonus": 0, "lm": [1]}}',
    ],
)
def test_bad_weights_are_refused(tmp_path, text):
    path = tmp_path / "w.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        read_any_weights(path)
    with pytest.raises(InputError):
        read_weights(path)


def test_the_first_pass_has_its_own_weights(tmp_path):
    path = tmp_path / "first_pass.json"
    weights = {"acoustic": 1, "first_lm": 6.5, "word_bonus": -0.43}
    path.write_text(json.dumps({"weights": weights, "decoder": "x"}), encoding="utf-8")
    assert read_first_pass(path) == ScoreWeights(1.0, 6.5, (), -0.43)


@pytest.mark.parametrize(
    ("path", "is_test"),
    [
        ("exp/test/nbest.jsonl", True),
        ("exp/test-clean/nbest.jsonl", True),
        ("exp/test_other/nbest.jsonl", True),
        ("exp/dev/TEST.jsonl", True),
        ("nbest_test2.jsonl.gz", True),
        ("exp/dev/latest.jsonl", False),
        ("exp/dev/contest.jsonl", False),
        ("test/exp/dev/nbest.jsonl", False),
        ("nbest.jsonl", False),
    ],
)
def test_test_sets_are_known_by_name(tmp_path, path, is_test):
    assert names_test_set(path) == is_test


def test_a_set_that_calls_itself_test_is_refused(tmp_path):
    path = tmp_path / "nbest.jsonl"
    for name, refused in (
        ("test", True),
        ("test-clean", True),
        ("dev", False),
        ("testimony", False),
    ):
        path.write_text(json.dumps({"set": name}) + "\n", encoding="utf-8")
        if refused:
            with pytest.raises(InputError, match="never tuned on test"):
                refuse_test_set(path, None)
        else:
            refuse_test_set(path, "data/dev/text")
    with pytest.raises(InputError, match="a set that is called test"):
        refuse_test_set(path, "data/test/text")
