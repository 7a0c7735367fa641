"""Subtracted LMs and the posterior scale: what tune finds beside positive weights."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.rescore.decisions import minimum_risk
from asrprune.rescore.nbest.scored_list import ScoredList, totals
from asrprune.rescore.tuning.posterior_scale import SCALES, tune_posterior_scale
from asrprune.rescore.tuning.problem import word_errors
from asrprune.rescore.tuning.tune import TuneOptions, tune
from asrprune.rescore.weights_file import WeightsFile, read_weights, write_weights


def lists(seed, count=12):
    """The second LM prefers what is wrong: subtracting it helps."""
    draw = np.random.default_rng(seed)
    made = []
    for number in range(count):
        texts = [" ".join(draw.choice(list("abc"), 4)) for _ in range(8)]
        wrong = np.array([sum(one != "a" for one in text.split()) for text in texts], float)
        noise = draw.normal(size=(3, 8))
        hyps = tuple(Hypothesis(text, float(a), 0.0) for text, a in zip(texts, noise[0]))
        lm = np.stack((noise[1] - 0.2 * wrong, 3.0 * wrong + noise[2]))
        nbest = NBest(f"u{number}", hyps)
        made.append(ScoredList(nbest, noise[0], np.zeros(8), lm, np.full(8, 4.0)))
    return made, {one.nbest.utt: "a a a a" for one in made}


def test_an_lm_is_subtracted_where_that_is_allowed():
    scored, refs = lists(1)
    start = ScoreWeights(1.0, 0.0)
    plain = tune(scored, refs, start)
    free = tune(scored, refs, start, TuneOptions(negative_lm=True))
    assert min(plain.weights.lm) >= 0.0
    assert free.weights.lm[1] < 0.0
    assert free.errors < plain.errors
    assert free.errors == sum(
        int(word_errors(refs[one.nbest.utt], one)[totals(one, free.weights).argmax()])
        for one in scored
    )


def test_the_scale_is_the_best_of_those_tried():
    scored, refs = lists(2)
    weights = ScoreWeights(1.0, 0.0, (1.0, 0.0))
    counts = []
    for scale in SCALES:
        errors = 0
        for one in scored:
            words = [hyp.words for hyp in one.nbest.hyps]
            total = totals(one, weights)
            order = np.argsort(-total, kind="stable").tolist()
            chosen = minimum_risk([words[i] for i in order], total[order], scale)
            errors += int(word_errors(refs[one.nbest.utt], one)[order[chosen]])
        counts.append(errors)
    found, errors = tune_posterior_scale(scored, refs, weights)
    assert errors == min(counts)
    assert counts[SCALES.index(found)] == errors


def test_the_words_of_an_empty_list_are_deleted():
    scored, refs = lists(2)
    weights = ScoreWeights(1.0, 0.0, (1.0, 0.0))
    nothing = np.zeros(0)
    empty = ScoredList(NBest("z", ()), nothing, nothing, np.zeros((2, 0)), nothing)
    scale, errors = tune_posterior_scale(scored, refs, weights)
    found = tune_posterior_scale([*scored, empty], {**refs, "z": "two words"}, weights)
    assert found == (scale, errors + 2)


def test_of_equally_good_scales_the_one_nearest_to_the_best_path_is_taken():
    scored, refs = lists(2)
    single = replace(scored[0], nbest=replace(scored[0].nbest, hyps=scored[0].nbest.hyps[:1]))
    found, _ = tune_posterior_scale([single], refs, ScoreWeights(1.0, 0.0, (1.0, 0.0)))
    assert found == max(SCALES)


def test_the_scale_is_kept_in_the_weights_file(tmp_path):
    path = tmp_path / "w.json"
    write_weights(path, WeightsFile(ScoreWeights(lm=(-0.5,)), ("lm",), posterior_scale=0.25))
    assert read_weights(path).posterior_scale == 0.25
    value = json.loads(path.read_text())
    for bad in (0, -1, "x", True):
        path.write_text(json.dumps({**value, "posterior_scale": bad}), encoding="utf-8")
        with pytest.raises(InputError, match="posterior_scale"):
            read_weights(path)
    del value["posterior_scale"]  # a file of an older version
    path.write_text(json.dumps(value), encoding="utf-8")
    assert read_weights(path).posterior_scale is None
