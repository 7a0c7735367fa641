"""Tuning on lattices: on small ones the pool is every hypothesis, so the lists of all paths must
give the same weights."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from asrprune.core.hypothesis import Hypothesis, NBest, first_pass_scores
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.rescore.lattices.beam_mode import BeamOptions
from asrprune.rescore.lattices.modes import LATTICE_MODES, rescore_lattices
from asrprune.rescore.nbest.scored_list import ScoredList
from asrprune.rescore.tuning.lattice_rounds import tune_on_lattices
from asrprune.rescore.tuning.round_options import RoundOptions
from asrprune.rescore.tuning.tune import TuneOptions, tune
from asrprune.wer.wer import count_errors
from tests.lattices import all_paths, path_total, random_lattice
from tests.rescore.lattices.test_lattice_modes import HashLM

START = ScoreWeights(1.0, 0.8, (), -0.1)
EXACT = BeamOptions(history=None, beam=None, state_hypotheses=None, frontier=None)
ALL = RoundOptions(rounds=4, list_size=10_000, beam=EXACT)
OPTIONS = TuneOptions(resamples=5)


class ListLM:
    """A made-up LM that scores lists too, and offers prefixes."""

    def __init__(self, salt: int = 0) -> None:
        self.salt = salt
        self.sentence = HashLM(salt).sentence

    def score_lists(self, lists):
        return [np.array([self.sentence(text.split()) for text in texts]) for texts in lists]

    def prefixes(self):
        return HashLM(self.salt)


@pytest.fixture(scope="module")
def dev():
    """Lattices with one best path a word sequence (so lists do not depend on the weights), and
    references that the second LM likes."""
    lattices, refs = [], {}
    liked = ListLM(salt=1)
    for seed in range(200):
        lattice = replace(random_lattice(seed), utt=f"u{seed:03d}")
        texts = [path_total(lattice, path, START)[1] for path in all_paths(lattice)]
        if len(texts) < 3 or len(set(texts)) < len(texts) or lattice.lm is None:
            continue
        lattices.append(lattice)
        refs[lattice.utt] = max(texts, key=lambda text: liked.sentence(text.split()))
    assert len(lattices) > 20
    return lattices, refs


def by_brute_force(lattices, lms):
    lists = []
    for lattice in lattices:
        hyps = []
        for path in all_paths(lattice):
            acoustic, _ = path_total(lattice, path, ScoreWeights(1.0, 0.0))
            first_lm, text = path_total(lattice, path, ScoreWeights(0.0, 1.0))
            hyps.append(Hypothesis(text, acoustic, first_lm))
        scores = np.array([[lm.sentence(hyp.words) for hyp in hyps] for lm in lms])
        columns = first_pass_scores(hyps)
        lists.append(ScoredList(NBest(lattice.utt, tuple(hyps)), *columns[:2], scores, columns[2]))
    return lists


@pytest.mark.parametrize("salts", [(1,), (5, 1)])
def test_small_lattices_give_the_weights_of_all_their_paths(dev, salts):
    lattices, refs = dev
    lms = [ListLM(salt) for salt in salts]
    found = tune_on_lattices(lattices, lms, refs, START, OPTIONS, ALL)
    wanted = tune(by_brute_force(lattices, lms), refs, START, OPTIONS)
    assert found.rest
    got, expected = (
        np.array([w.acoustic, w.first_lm, *w.lm, w.word_bonus])
        for w in (found.tuned.weights, wanted.weights)
    )
    assert got == pytest.approx(expected, abs=1e-6)
    assert found.tuned.errors == wanted.errors
    assert found.tuned.held_out_errors == wanted.held_out_errors
    assert found.tuned.intervals is not None
    assert found.tuned.errors < 0.7 * found.tuned.start_errors
    mode = LATTICE_MODES["beam"]
    prefixes = [lm.prefixes() for lm in lms]
    stream = rescore_lattices(lattices, mode, prefixes, found.tuned.weights, EXACT)
    best = [
        count_errors(refs[one.lattice.utt], " ".join(one.best(1)[0].words(one.lattice))).errors
        for one in stream
    ]
    assert sum(best) == found.tuned.errors  # what rescoring then makes


def test_hypotheses_come_from_the_rescored_lattices_and_are_scored_once(dev):
    lattices, refs = dev
    lm = ListLM(salt=1)
    narrow = RoundOptions(rounds=3, list_size=2, beam=EXACT)
    found = tune_on_lattices(lattices, [lm], refs, START, OPTIONS, narrow)
    assert found.hypotheses > 2 * len(lattices)  # more than the first pass's own lists
    assert found.hypotheses == sum(len(one.nbest.hyps) for one in found.lists)
    for scored in found.lists:
        sentences = [lm.sentence(hyp.words) for hyp in scored.nbest.hyps]
        assert scored.lm[0] == pytest.approx(sentences)
    again = tune_on_lattices(lattices[::-1], [ListLM(salt=1)], refs, START, OPTIONS, narrow)
    assert again.tuned == found.tuned


def test_similar_weights_draw_the_others_to_them(dev):
    lattices, refs = dev
    towards = ScoreWeights(1.0, 0.3, (0.5,), -0.1)
    found = tune_on_lattices(lattices, [ListLM(1)], refs, START, OPTIONS, ALL, towards)
    assert found.tuned.centre == towards
    alone = tune_on_lattices(lattices, [ListLM(1)], refs, START, OPTIONS, ALL)
    assert alone.tuned.centre != towards


def test_bad_input_is_refused(dev):
    lattices, refs = dev
    with pytest.raises(InputError, match="without a reference"):
        tune_on_lattices(lattices, [ListLM(1)], {}, START, OPTIONS, ALL)
    wrong = ScoreWeights(lm=(1.0, 1.0))
    with pytest.raises(ValueError, match="1 LMs for 2 LM weights"):
        tune_on_lattices(lattices, [ListLM(1)], refs, START, OPTIONS, ALL, wrong)
    for bad in ({"rounds": 0}, {"list_size": 0}, {"tolerance": math.nan}):
        with pytest.raises(ValueError, match="expected >= 1"):
            RoundOptions(**bad)
