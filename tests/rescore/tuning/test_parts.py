"""What each part brings, and that an LM of pure noise cannot spoil the first pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.weights import ScoreWeights
from asrprune.rescore.nbest.scored_list import ScoredList, totals
from asrprune.rescore.tuning.held_out import SPLITS, expected_on_folds, fold_errors
from asrprune.rescore.tuning.parts import SCALES, START, WITH_LM, Part, believed, make_parts
from asrprune.rescore.tuning.problem import Limits, make_problem, word_errors
from asrprune.rescore.tuning.report import described, warning
from asrprune.rescore.tuning.smooth_search import expected_errors
from asrprune.rescore.tuning.tune import TuneOptions, sharpness_of, tune
from tests.quick import slow

FIRST_PASS = ScoreWeights(1.0, 2.7, (0.0,), 7.7)
"""Close to the best that can be done with the scores of ``decoded`` without its LM."""
QUICK = TuneOptions(resamples=0)


def decoded(seed, utterances, use, scale=1.0):
    """Lists of a first pass whose scores tell right from wrong words through noise, as an LM of
    this ``use`` does: at 0 it is noise alone, at 1 as good as the first pass's LM, whose weight is
    scaled by ``scale`` in the wrong way."""
    random = np.random.default_rng(seed)
    lists, refs = [], {}
    for number in range(utterances):
        ref = [f"w{random.integers(0, 50)}" for _ in range(random.integers(4, 14))]
        texts = sorted({_heard(ref, random.random() * 0.5, random) for _ in range(20)})
        n_words = np.array([len(text.split()) for text in texts], float)
        errors = np.array([Levenshtein.distance(ref, text.split()) for text in texts], float)
        noise = random.normal(0, 4, (3, len(texts)))
        acoustic = -1.8 * errors + 2 * noise[0] - 5 * n_words
        first_lm = (-1.2 * errors + noise[1] - n_words) / scale
        lm = -1.2 * use * errors + noise[2] - n_words
        hyps = tuple(Hypothesis(t, a, f) for t, a, f in zip(texts, acoustic, first_lm))
        utt = f"u{number:03d}"
        lists.append(ScoredList(NBest(utt, hyps), acoustic, first_lm, lm[None], n_words))
        refs[utt] = " ".join(ref)
    return lists, refs


def _heard(ref, rate, random):
    """The words with substitutions, deletions and insertions, one error in 1 / ``rate`` words."""
    draws = random.random(len(ref))
    words = [
        word if draw > rate else ("x", "", f"{word} y")[int(3 * draw / rate)]
        for word, draw in zip(ref, draws)
    ]
    return " ".join(" ".join(words).split())


def wer(data, weights):
    lists, refs = data
    errors = sum(
        int(word_errors(refs[one.nbest.utt], one)[np.argmax(totals(one, weights))]) for one in lists
    )
    return 100 * errors / sum(len(ref.split()) for ref in refs.values())


@pytest.mark.parametrize("seeds", [range(4, 8), *slow([range(40)])])
def test_an_lm_of_noise_leaves_the_first_pass_as_it_is(seeds):
    """Dev is so small that noise fits it: without the fallback test gets worse."""
    loss, without = [], []
    for seed in seeds:
        dev, test = decoded(seed, 60, 0.0), decoded(1000 + seed, 200, 0.0)
        first_pass = wer(test, FIRST_PASS)
        loss.append(wer(test, tune(*dev, FIRST_PASS, QUICK).weights) - first_pass)
        free = TuneOptions(resamples=0, fallback=False)
        without.append(wer(test, tune(*dev, FIRST_PASS, free).weights) - first_pass)
    assert np.mean(loss) < 0.1
    assert sum(one > 0.5 for one in loss) <= 0.05 * len(seeds)
    assert np.mean(without) > 0.4


def test_an_lm_that_helps_keeps_its_weight():
    dev, test = decoded(1, 60, 3.0), decoded(1001, 300, 3.0)
    found = tune(*dev, FIRST_PASS, QUICK)
    assert found.taken == WITH_LM
    assert found.parts[-1].helps
    assert warning(found) is None
    assert wer(test, found.weights) < 0.8 * wer(test, FIRST_PASS)
    free = tune(*dev, FIRST_PASS, TuneOptions(resamples=0, fallback=False))
    assert free.weights == found.weights


def test_scales_without_the_lm_are_a_part_of_their_own():
    dev, test = decoded(2, 60, 0.0, scale=100.0), decoded(1002, 300, 0.0, scale=100.0)
    found = tune(*dev, FIRST_PASS, TuneOptions(resamples=9))
    assert [part.name for part in found.parts] == [START, SCALES, WITH_LM]
    assert found.taken == SCALES
    assert found.weights.lm == (0.0,)
    assert found.weights.first_lm > 10 * FIRST_PASS.first_lm
    assert found.intervals is not None
    assert found.intervals.high.lm == (0.0,)
    assert found.errors == found.parts[1].errors < found.start_errors == found.parts[0].errors
    assert wer(test, found.weights) < wer(test, FIRST_PASS)
    said = warning(found) or ""
    assert "it gets weight 0, the other weights are tuned without it (--no-fallback" in said


def test_what_is_said_of_an_lm_of_no_use():
    dev = decoded(0, 30, 0.0)
    found = tune(*dev, FIRST_PASS, QUICK)
    assert (found.taken, found.weights) == (START, FIRST_PASS)
    assert "it gets weight 0, the other weights are those of the start" in (warning(found) or "")
    lines = described(found, ["lm"])
    assert lines[0].startswith(f"start weights: {found.start_errors} word errors on dev, ")
    assert lines[1].startswith("word bonus and scales: ")
    (line,) = (one for one in lines if one.startswith("dev "))
    assert line.endswith(f"({found.utterances} utterances, {found.words} words)")
    assert lines[2].startswith("with the LM: ")
    in_characters = "\n".join(described(found, ["lm"], "char"))
    changes = (("word errors", "character errors"), (" words)", " characters)"), ("WER", "CER"))
    changed = "\n".join(lines)
    for words, characters in changes:
        assert words in changed
        changed = changed.replace(words, characters)
    assert in_characters == changed
    doubtful = replace(found, parts=(found.parts[0], replace(found.parts[-1], gain=1.0, doubt=2.0)))
    assert "removes 1.0 expected word errors" in (warning(doubtful) or "")
    assert "removes 1.0 expected character errors" in (warning(doubtful, "char") or "")
    assert "+-" in lines[2]
    kept = tune(*dev, FIRST_PASS, TuneOptions(resamples=0, fallback=False))
    assert kept.weights != FIRST_PASS
    assert kept.parts == found.parts
    assert (warning(kept) or "").endswith(": do not expect it to on test")
    exact = tune(*dev, FIRST_PASS, TuneOptions(objective="errors", starts=0))
    assert exact.parts == ()
    assert warning(exact) is None
    with pytest.raises(ValueError, match="fallback without parts"):
        TuneOptions(parts=False)


def test_a_part_is_judged_against_the_best_before_it():
    rows = [np.array([3.0, 3, 3, 3]), np.array([4.0, 3, 3, 3]), np.array([2.0, 3, 2, 3])]
    parts = make_parts([(name, 9, row) for name, row in zip((START, SCALES, WITH_LM), rows)])
    assert [part.held_out for part in parts] == [12, 13, 10]
    assert [part.gain for part in parts] == [0, -1, 2]  # 3 from the scales
    assert parts[2].doubt == pytest.approx(2 * np.std([1, 0, 1, 0], ddof=1))
    assert [part.helps for part in parts] == [False, False, True]
    assert believed(parts) is parts[2]
    assert believed(parts[:2]) is parts[0]
    (_, one) = make_parts([(START, 1, np.array([3.0])), (SCALES, 1, np.array([2.0]))])
    assert (one.gain, one.doubt, one.helps) == (1.0, 1.0, True)  # all that there is speaks for it


@pytest.mark.parametrize(("gain", "helps"), [(2.0, True), (1.9, False), (0.0, False)])
def test_one_standard_error(gain, helps):
    assert Part(WITH_LM, 0, 0.0, gain, 2.0).helps is helps
    assert not Part(WITH_LM, 0, 0.0, 0.0, 0.0).helps


def test_halves_of_several_splits():
    lists, refs = decoded(3, 9, 0.0)
    problem, begin = make_problem(lists, refs, FIRST_PASS, Limits(), "lists")
    seen = []

    def search(counts):
        seen.append(counts)
        return begin

    sharpness = sharpness_of(problem)
    found = expected_on_folds(problem, search, sharpness)
    assert found.sum() == pytest.approx(expected_errors(problem, begin, sharpness)[0])
    assert len(seen) == 2 * SPLITS
    for one, other in zip(seen[::2], seen[1::2]):
        assert (one + other == 1).all()
    assert len({tuple(one) for one in seen}) == 2 * SPLITS
    once = seen[:2]
    seen.clear()
    fold_errors(problem, search)
    assert np.array_equal(seen, once)
