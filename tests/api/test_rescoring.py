"""Scoring, tuning and rescoring in memory: as the verbs do it, and strict about its input."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import asrprune
from asrprune.api.example import SENTENCES, tiny_lists, tiny_lm
from asrprune.core.lattice.union import union_of_nbest
from asrprune.errors import InputError
from asrprune.rescore.lattices.modes import LATTICE_MODES
from asrprune.rescore.nbest.scored_list import scored_lists
from asrprune.rescore.scores_file import Scores, UtteranceScores
from asrprune.rescore.tuning.tune import TuneOptions, tune

WEIGHTS = asrprune.ScoreWeights(1.0, 0.5, (0.5,), 0.25)
RIGHT = {nbest.utt: nbest.ref for nbest in tiny_lists()}


@pytest.fixture(scope="module")
def scores() -> dict[str, np.ndarray]:
    return asrprune.score_nbest(tiny_lm(), tiny_lists())


def test_scores_are_those_of_the_lm(scores: dict[str, np.ndarray]) -> None:
    lm = asrprune.open_lm(tiny_lm())
    assert list(scores) == ["utt1", "utt2"]
    for nbest in tiny_lists():
        found = scores[nbest.utt]
        expected = [lm.score_lists([[hyp.text]])[0][0] for hyp in nbest.hyps]
        assert (found.dtype, found.shape) == (np.float64, (2,))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert asrprune.score_nbest(lm, iter(tiny_lists())).keys() == scores.keys()
    assert asrprune.score_nbest(lm, []) == {}
    assert asrprune.score_nbest(lm, [asrprune.NBest("u", ())])["u"].shape == (0,)


def test_a_hypothesis_that_cannot_be_scored_is_named() -> None:
    long = asrprune.NBest("u-9", (asrprune.Hypothesis("a"), asrprune.Hypothesis("mat " * 99 + "a")))
    problem = "lists: utterance u-9: hypothesis 2 has .* tokens; the model takes at most 63"
    with pytest.raises(InputError, match=problem):
        asrprune.score_nbest(tiny_lm(), [*tiny_lists(), long])
    lm = asrprune.open_lm(tiny_lm(), over_long="minus-inf")
    assert asrprune.score_nbest(lm, [long])["u-9"][1] == -math.inf


@pytest.mark.parametrize("verb", ["score", "tune", "rescore"])
def test_what_are_no_lists_is_refused(verb: str, scores: dict[str, np.ndarray]) -> None:
    call: dict[str, Any] = {
        "score": lambda lists: asrprune.score_nbest(tiny_lm(), lists),
        "tune": lambda lists: asrprune.tune_weights(lists, scores),
        "rescore": lambda lists: asrprune.rescore_nbest(lists, scores, WEIGHTS),
    }
    nbest = tiny_lists()[0]
    for lists, found in (
        (["the cat", "a cat"], r"lists\[0\] is 'the cat' \(str\); expected asrprune.NBest, an"),
        ([["the cat", "a cat"]], r"lists\[0\] is \['the cat', 'a cat'\] \(list\); expected"),
        ([nbest, nbest.hyps[0]], r"lists\[1\] is Hypothesis\(.* \(Hypothesis\); expected"),
        ("the cat", r"lists is 'the cat' \(str\); expected a list of asrprune.NBest"),
        (nbest, r"lists is NBest\(.* \(NBest\); expected a list of asrprune.NBest"),
    ):
        with pytest.raises(TypeError, match=found):
            call[verb](lists)
    with pytest.raises(ValueError, match="utterance utt1 comes twice"):
        call[verb]([nbest, nbest])


def test_the_first_pass_comes_back_without_an_lm(scores: dict[str, np.ndarray]) -> None:
    first = {nbest.utt: nbest.hyps[0].text for nbest in tiny_lists()}
    assert asrprune.rescore_nbest(tiny_lists(), [], asrprune.ScoreWeights()) == first
    zero = asrprune.ScoreWeights(lm=(0.0,))
    assert asrprune.rescore_nbest(tiny_lists(), scores, zero) == first
    assert asrprune.rescore_nbest(tiny_lists(), scores, WEIGHTS) == RIGHT != first


def noisy_lists() -> tuple[list[asrprune.NBest], dict[str, list[float]]]:
    """Lists whose word errors the scores tell little about: every start ends somewhere else."""
    draw = np.random.default_rng(5)
    lists, scores = [], {}
    for number in range(60):
        texts = [" ".join(draw.choice(list("abc"), draw.integers(2, 7))) for _ in range(6)]
        hyps = tuple(asrprune.Hypothesis(text, *draw.normal(size=2)) for text in texts)
        lists.append(asrprune.NBest(f"u{number}", hyps, ref=texts[draw.integers(6)]))
        scores[f"u{number}"] = draw.normal(size=6).tolist()
    return lists, scores


def test_weights_are_those_of_the_verb() -> None:
    lists, scores = noisy_lists()
    refs = {one.utt: one.ref or "" for one in lists}
    entries = {
        one.utt: UtteranceScores(one.utt, one.digest, np.array(scores[one.utt])) for one in lists
    }
    joined = list(scored_lists(lists, [Scores("x", {}, entries)]))
    start = asrprune.ScoreWeights(1.0, 2.0, (), -0.5)
    settings: dict[str, Any] = {"start": start, "seed": 3, "resamples": 9}
    found = asrprune.tune_weights(lists, scores, **settings)
    assert found == tune(joined, refs, start, TuneOptions(3, resamples=9))
    other = asrprune.ScoreWeights(1.0, 0.5, (3.0,), 0.0)
    for change in ({"seed": 4}, {"resamples": 0}, {"start": None}, {"towards": other}):
        assert asrprune.tune_weights(lists, scores, **{**settings, **change}) != found, change
    settings = {"start": start, "seed": 3, "starts": 2, "objective": "errors"}
    found = asrprune.tune_weights(lists, scores, **settings)
    assert found == tune(joined, refs, start, TuneOptions(3, 2, objective="errors"))
    for change in ({"seed": 4}, {"starts": 0}, {"start": None}, {"negative_lm": True}):
        assert asrprune.tune_weights(lists, scores, **{**settings, **change}) != found, change
    other = dict.fromkeys(refs, "a b c")
    assert asrprune.tune_weights(lists, scores, other, **settings).words == 180


def test_an_lm_may_be_subtracted(scores: dict[str, np.ndarray]) -> None:
    wrong = {utt: -values for utt, values in scores.items()}
    exact: dict[str, Any] = {"objective": "errors", "starts": 3}
    assert asrprune.tune_weights(tiny_lists(), wrong, **exact).errors == 1
    found = asrprune.tune_weights(tiny_lists(), wrong, **exact, negative_lm=True)
    assert (found.errors, found.weights.lm[0] < 0) == (0, True)


def test_scores_of_several_lms(scores: dict[str, np.ndarray]) -> None:
    nothing = {utt: [0.0, 0.0] for utt in scores}
    lists = tiny_lists()
    assert len(asrprune.tune_weights(lists, [nothing, scores], starts=2).weights.lm) == 2
    both = asrprune.ScoreWeights(1.0, 0.5, (9.0, 0.5))
    assert asrprune.rescore_nbest(lists, (nothing, scores), both) == RIGHT
    swapped = asrprune.rescore_nbest(lists, (scores, nothing), replace(both, lm=(0.0, 9.0)))
    assert swapped["utt1"] == "the cat sad on the mat"
    with pytest.raises(ValueError, match="1 LM scores for 2 LM weights"):
        asrprune.rescore_nbest(lists, scores, both)


def test_scores_that_do_not_fit_are_named(scores: dict[str, np.ndarray]) -> None:
    for wrong, found in (
        ({"utt1": scores["utt1"]}, "scores of LM 1: no scores of utterance utt2"),
        ({**scores, "utt2": ["a", "b"]}, r"utterance utt2: \['a', 'b'\] \(list\); expected num"),
        ({**scores, "utt2": [0.0]}, r"utterance utt2: scores of shape \[1\]; expected one for eac"),
        ({**scores, "utt2": [0.0, math.nan]}, "utterance utt2: no lm score of hypothesis 2"),
        ({**scores, "utt1": [math.inf, 0.0]}, "utterance utt1: the score inf"),
    ):
        with pytest.raises(InputError, match=found):
            asrprune.rescore_nbest(tiny_lists(), wrong, WEIGHTS)
    with pytest.raises(TypeError, match=r"scores of LM 1: array\(.*; expected utterance id -> "):
        asrprune.rescore_nbest(tiny_lists(), list(scores.values()), WEIGHTS)
    silent = {**scores, "utt1": [0.0, -math.inf]}  # -inf never wins
    assert asrprune.rescore_nbest(tiny_lists(), silent, WEIGHTS)["utt1"].startswith("the cat sad")


def test_references_are_joined_by_id(scores: dict[str, np.ndarray]) -> None:
    with pytest.raises(InputError, match="lists: utterance utt2 without a reference"):
        asrprune.tune_weights(tiny_lists(), scores, {"utt1": "the cat"})
    lists = [replace(tiny_lists()[0], ref=None), tiny_lists()[1]]
    with pytest.raises(InputError, match="lists: utterance utt1 without a reference"):
        asrprune.tune_weights(lists, scores)


def test_the_decision_takes_its_scale(scores: dict[str, np.ndarray]) -> None:
    texts = {"a a a": 0.2, "b b c": 0.0, "b b b": 0.0}
    nbest = asrprune.NBest("u", tuple(asrprune.Hypothesis(t, s, 0.0) for t, s in texts.items()))
    weights, lattice = asrprune.ScoreWeights(), union_of_nbest(nbest)

    def both(**decision: Any) -> list[str]:
        return [
            asrprune.rescore_nbest([nbest], [], weights, **decision)["u"],
            asrprune.rescore_lattices([lattice], [], weights, **decision)["u"],
        ]

    assert both() == ["a a a"] * 2
    assert both(decision="mbr", posterior_scale=50.0) == ["a a a"] * 2  # sure of the best
    for words in both(decision="mbr", posterior_scale=1.0):
        assert words in ("b b c", "b b b")
    for decision, scale, problem in (
        ("map", 1.0, "posterior_scale is 1.0; expected none with the decision map"),
        ("mbr", None, "posterior_scale is None; expected a number > 0 for mbr"),
        ("mbr", -1.0, "posterior_scale is -1.0; expected a number > 0 for mbr"),
        ("consensus", 1.0, "unknown decision for n-best lists 'consensus'; known: map, mbr"),
    ):
        with pytest.raises(ValueError, match=problem):
            asrprune.rescore_nbest([nbest], [], weights, decision=decision, posterior_scale=scale)
    with pytest.raises(TypeError, match=r"weights is Tuned\(.*; expected asrprune.ScoreWeights"):
        asrprune.rescore_nbest(tiny_lists(), scores, asrprune.tune_weights(tiny_lists(), scores))


@pytest.mark.parametrize("mode", LATTICE_MODES)
def test_lattices_of_lists_give_what_the_lists_give(mode: str) -> None:
    lattices = [union_of_nbest(nbest) for nbest in tiny_lists()]
    lm = asrprune.open_lm(tiny_lm())
    assert asrprune.rescore_lattices(lattices, lm, WEIGHTS, mode) == RIGHT
    assert asrprune.rescore_lattices(lattices, [tiny_lm()], WEIGHTS, mode) == RIGHT
    first = asrprune.rescore_lattices(lattices, [], asrprune.ScoreWeights(), mode)
    assert first == {nbest.utt: nbest.hyps[0].text for nbest in tiny_lists()}
    for decision in ("mbr", "consensus"):
        found = asrprune.rescore_lattices(
            lattices, tiny_lm(), WEIGHTS, mode, decision=decision, posterior_scale=1.0
        )
        assert found == RIGHT


def test_several_lms_on_lattices() -> None:
    lattices = [union_of_nbest(nbest) for nbest in tiny_lists()]
    (small,) = asrprune.prune_lm(tiny_lm(), SENTENCES, schedule="one-shot", sparsities=(0.3,))
    weights = replace(WEIGHTS, lm=(0.25, 0.25))
    assert asrprune.rescore_lattices(lattices, [tiny_lm(), small], weights) == RIGHT
    with pytest.raises(ValueError, match="1 LMs for 2 LM weights"):
        asrprune.rescore_lattices(lattices, small, weights)


def test_options_of_a_mode_have_an_effect_or_are_refused() -> None:
    lattices = [union_of_nbest(nbest) for nbest in tiny_lists()]
    one = asrprune.rescore_lattices(lattices, tiny_lm(), WEIGHTS, "nbest", paths=1)
    assert one["utt1"] == "the cat sad on the mat"
    with pytest.raises(InputError, match="lattice utt1: more than 1 distinct word sequences"):
        asrprune.rescore_lattices(lattices, tiny_lm(), WEIGHTS, "exact", limit=1)
    for arguments, found in (
        ({"mode": "bean"}, "unknown lattice mode 'bean'; did you mean 'beam'"),
        ({"histroy": 3}, "unknown option of mode beam 'histroy'; did you mean 'history'"),
        ({"mode": "nbest", "history": 3}, "unknown option of mode nbest 'history'"),
        ({"history": -1}, "history is -1; expected >= 0"),
        ({"decision": "best"}, "unknown decision 'best'"),
    ):
        with pytest.raises(ValueError, match=found):
            asrprune.rescore_lattices(lattices, tiny_lm(), WEIGHTS, **arguments)


def test_what_are_no_lattices_is_refused() -> None:
    with pytest.raises(TypeError, match=r"lattices\[0\] is NBest\(.*; expected a lattice of asrpr"):
        asrprune.rescore_lattices(tiny_lists(), tiny_lm(), WEIGHTS)
    lattice = union_of_nbest(tiny_lists()[0])
    with pytest.raises(ValueError, match="lattices: utterance utt1 comes twice"):
        asrprune.rescore_lattices([lattice, lattice], tiny_lm(), WEIGHTS)


def test_lists_are_tuned_and_rescored_in_the_unit_of_the_weights() -> None:
    hyps = (asrprune.Hypothesis("a b c", -5.0, 0.0), asrprune.Hypothesis("abcdefghij", -5.5, 0.0))
    lists = [asrprune.NBest("u", hyps)]
    weights = asrprune.ScoreWeights(1.0, 0.0, (), 1.0, unit="char")
    assert asrprune.rescore_nbest(lists, [], weights) == {"u": "abcdefghij"}
    assert asrprune.rescore_lattices([union_of_nbest(lists[0])], [], weights) == {"u": "abcdefghij"}
    assert asrprune.rescore_nbest(lists, [], replace(weights, unit="word")) == {"u": "a b c"}
    tuned = asrprune.tune_weights(
        tiny_lists(),
        asrprune.score_nbest(tiny_lm(), tiny_lists()),
        start=asrprune.ScoreWeights(unit="char"),
    )
    characters = sum(len(str(ref).replace(" ", "")) for ref in RIGHT.values())
    assert (tuned.words, tuned.weights.unit) == (characters, "char")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"refs": ["a", "b"]}, "refs is .*; expected utterance id -> words"),
        ({"refs": {"utt1": ["a"]}}, "refs: utterance utt1 has .*; expected its words"),
        ({"start": {"acoustic": 1}}, "start is .*; expected asrprune.ScoreWeights"),
        ({"towards": 0.5}, "towards is .*; expected asrprune.ScoreWeights"),
    ],
)
def test_other_references_and_weights_are_named(
    bad: dict[str, Any], message: str, scores: dict[str, np.ndarray]
) -> None:
    with pytest.raises(TypeError, match=message):
        asrprune.tune_weights(tiny_lists(), scores, **bad)
