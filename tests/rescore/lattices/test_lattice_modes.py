"""Every mode of lattice rescoring against all paths, scored one by one."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrprune.core.lattice.lattice import Lattice, arc_totals, from_arcs
from asrprune.core.lattice.paths import best_path, path_cover
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.rescore.decisions import DECISIONS, minimum_risk
from asrprune.rescore.lattices.beam_mode import BeamOptions
from asrprune.rescore.lattices.modes import LATTICE_MODES, rescore_lattices
from asrprune.rescore.lattices.path_modes import (
    CoverOptions,
    ExactOptions,
    NbestOptions,
)
from asrprune.rescore.lattices.scored_lattice import ScoredLattice, ranking_weights
from tests.lattices import all_paths, path_total, random_lattice
from tests.quick import slow

EVERYTHING = BeamOptions(history=None, beam=None, state_hypotheses=None, frontier=None, parallel=2)
OPTIONS = {
    "nbest": NbestOptions(10_000),
    "cover": CoverOptions(1e9),
    "beam": EVERYTHING,
    "exact": ExactOptions(10_000),
}
WEIGHTS = ScoreWeights(0.7, 0.5, (2.0,), -0.3)


class HashLM:
    """A made-up LM: ln P(word | history) is drawn from their hash; ``order`` words are seen."""

    name = "hash"

    def __init__(self, salt: int = 0, order: int = 1000) -> None:
        self.salt, self.order = salt, order
        self.tokens = 0
        self.prefixes: dict[int, tuple[str, ...]] = {}
        self.most = 0
        self.made = 0

    def one(self, history, word: str) -> float:
        seen = tuple(history)[max(0, len(history) - self.order + 1) :]
        return -(zlib.crc32(f"{self.salt} {seen} {word}".encode()) % 1000) / 200.0

    def sentence(self, words) -> float:
        line = [*words, "</s>"]
        return sum(self.one(["<s>", *line[:place]], word) for place, word in enumerate(line))

    def score_words(self, lists):
        self.tokens += sum(len(hyp) + 1 for hyps in lists for hyp in hyps)
        return [
            [
                np.array([self.one(["<s>", *hyp[:i]], w) for i, w in enumerate([*hyp, "</s>"])])
                for hyp in hyps
            ]
            for hyps in lists
        ]

    def root(self, group):
        return self._add(("<s>",))

    def child(self, prefix, word):
        return self._add((*self.prefixes[prefix], word))

    def score(self, pairs):
        self.tokens += len(pairs)
        return np.array([self.one(self.prefixes[prefix], word) for prefix, word in pairs])

    def keep(self, prefixes):
        self.prefixes = {prefix: self.prefixes[prefix] for prefix in set(prefixes)}
        self.most = max(self.most, len(self.prefixes))

    def _add(self, words):
        self.made += 1
        self.prefixes[self.made] = words
        return self.made


def truth(lattice: Lattice, weights: ScoreWeights, *lms: HashLM) -> dict[str, float]:
    """Total of every word sequence, its paths and its LM scores taken one by one."""
    first_pass = ScoreWeights(weights.acoustic, weights.first_lm, (), weights.word_bonus)
    best: dict[str, float] = {}
    for path in all_paths(lattice):
        total, text = path_total(lattice, path, first_pass)
        total += sum(g * lm.sentence(text.split()) for g, lm in zip(weights.lm, lms) if g)
        best[text] = max(total, best.get(text, -math.inf))
    return best


def rescore(name, lattice, weights, *lms, options=None) -> ScoredLattice:
    mode = LATTICE_MODES[name]
    (result,) = rescore_lattices([lattice], mode, lms, weights, options or OPTIONS[name])
    return result


def found(scored: ScoredLattice, count: int = 1000) -> dict[str, float]:
    return {" ".join(p.words(scored.lattice)): p.total for p in scored.best(count)}


@pytest.mark.parametrize("name", ["nbest", "beam", "exact"])
@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([(2.0,), (0.5, -0.75), (-1.0,), (0.0, 1.0)]))
def test_without_limits_the_result_is_that_of_brute_force(name, seed, gains):
    lattice = random_lattice(seed)
    lms = [HashLM(salt) for salt, _ in enumerate(gains)]
    weights = ScoreWeights(0.7, 0.5, gains, -0.3)
    expected = truth(lattice, weights, *lms)
    if not expected:
        return
    assert found(rescore(name, lattice, weights, *lms)) == pytest.approx(expected)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_merged_histories_are_exact_for_an_lm_that_looks_no_further(seed, order):
    lattice = random_lattice(seed)
    lm = HashLM(order=order)
    expected = truth(lattice, WEIGHTS, lm)
    if not expected:
        return
    options = BeamOptions(order - 1, None, None, None)
    assert found(rescore("beam", lattice, WEIGHTS, lm, options=options)) == pytest.approx(expected)


@pytest.mark.parametrize("name", LATTICE_MODES)
@pytest.mark.parametrize("has_lm", [True, *slow([False])])
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_lm_weight_zero_is_the_first_pass(name, has_lm, seed):
    lattice = random_lattice(seed)
    if not has_lm:
        lattice = Lattice(**{**vars(lattice), "lm": None})
    first_pass = ScoreWeights(0.7, 2.5 if has_lm else 0.0, (), -0.3)
    best = best_path(lattice, first_pass)
    if best is None:
        return
    weights = ScoreWeights(0.7, first_pass.first_lm, (0.0,), -0.3)
    tight = {
        "nbest": NbestOptions(1),
        "cover": CoverOptions(0.0),
        "beam": BeamOptions(0, 0.0, 1, None),
        "exact": ExactOptions(10_000),
    }
    for options in (tight[name], OPTIONS[name]):
        lm = HashLM()
        scored = rescore(name, lattice, weights, lm, options=options)
        assert DECISIONS["map"](scored, 1.0) == best.text
        assert lm.tokens == 0  # nothing is asked of an LM that does not count


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6))
def test_a_cover_is_exact_for_words_alone_and_never_better_than_the_truth(seed):
    lattice = random_lattice(seed)
    alone = HashLM(order=1)  # no history: the estimates are no estimates
    expected = truth(lattice, WEIGHTS, alone)
    if not expected:
        return
    scored = rescore("cover", lattice, WEIGHTS, alone)
    covered = path_cover(lattice, arc_totals(lattice, ranking_weights(lattice, WEIGHTS)))
    assert scored.lattice.n_arcs == len({arc for path in covered for arc in path.arcs})
    (best,) = found(scored, 1)
    assert best in expected
    # </s> behind another last word is all that can be estimated wrongly
    gap = max(expected.values()) - expected[best]
    assert gap <= 2.0 * 2 * 5.0


@pytest.mark.parametrize("name", LATTICE_MODES)
def test_the_written_lattice_has_the_totals_and_the_best_path(name):
    for seed in range(20):
        lattice = random_lattice(seed)
        if not all_paths(lattice):
            continue
        for weights in (WEIGHTS, ScoreWeights(1.0, 0.0, (-0.5,), 0.25)):
            scored = rescore(name, lattice, weights, HashLM())
            new = scored.rescored()
            assert new.weights is not None
            np.testing.assert_allclose(arc_totals(new, new.weights), scored.totals)
            best = best_path(new, new.weights)
            assert best is not None
            assert best.text == DECISIONS["map"](scored, 1.0)


@pytest.mark.parametrize("name", LATTICE_MODES)
def test_the_list_keeps_the_scores_of_the_first_pass(name):
    lattice = random_lattice(4)
    first_pass = ScoreWeights(0.7, 0.5, (), -0.3)
    expected = {}
    for path in all_paths(lattice):
        total, text = path_total(lattice, path, first_pass)
        expected[text] = max(total, expected.get(text, -math.inf))
    nbest = rescore(name, lattice, WEIGHTS, HashLM()).nbest(50)
    totals = {h.text: first_pass.total(h.acoustic, h.lm, (), len(h.words)) for h in nbest.hyps}
    assert totals == pytest.approx({text: expected[text] for text in totals})
    assert len(totals) > 1


def test_a_narrow_beam_holds_little_and_finds_the_best_path_with_a_good_guess():
    words = [
        (i, i + 1, word, -cost, -cost)
        for i in range(12)
        for word, cost in (("a", 1.0), ("b", 1.5), ("c", 2.0))
    ]
    lattice = from_arcs("u", 13, 0, 12, words)  # 531,441 paths
    lm = HashLM()
    options = BeamOptions(history=None, beam=None, state_hypotheses=4, frontier=4)
    scored = rescore("beam", lattice, ScoreWeights(1.0, 0.5, (0.1,)), lm, options=options)
    assert lm.most <= 4 * 3  # the children of four hypotheses
    assert lm.tokens <= 12 * 4 * 3 + 12
    assert len(found(scored, 5)) == 5
    with pytest.raises(InputError, match="lattice u: more than 100 distinct"):
        rescore("exact", lattice, WEIGHTS, HashLM(), options=ExactOptions(100))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.0, 3.0), st.floats(1.0, 100.0))
def test_the_tightest_beam_keeps_a_hypothesis_however_low_the_lm_scores(seed, beam, gain):
    lattice = random_lattice(seed)
    weights = ScoreWeights(0.7, 0.5, (gain,), -0.3)
    expected = truth(lattice, weights, HashLM())
    if not expected:
        return
    options = BeamOptions(None, beam, 1, 2)
    scored = rescore("beam", lattice, weights, HashLM(), options=options)
    for text, total in found(scored).items():
        assert total <= expected[text] + 1e-6


class StatedLM(HashLM):
    """ln P of each word whatever stands before it; 0 for those that are not stated."""

    def __init__(self, **scores: float) -> None:
        super().__init__()
        self.scores = scores

    def one(self, history, word: str) -> float:
        return self.scores.get(word, 0.0)


def test_what_falls_out_of_the_beam_by_its_lm_score_asks_for_no_more():
    arcs = [(0, 1, "a", 0.0), (0, 3, "b", 0.0), (0, 2, "", -100.0), (2, 3, "", 0.0)]
    arcs += [(1, 4, "c", 0.0), (3, 4, "d", 0.0)]
    lattice = from_arcs("u", 5, 0, 4, [(*arc, 0.0) for arc in arcs])
    lm = StatedLM(b=-10.0, c=-50.0)
    options = BeamOptions(history=None, beam=1.0)
    scored = rescore("beam", lattice, ScoreWeights(1.0, 0.0, (1.0,)), lm, options=options)
    assert found(scored) == {"a c": -50.0}
    assert lm.tokens == 4  # a, b, c and the end: b is below a by more than the beam
    assert lm.made == 3  # the root, a and a c


def test_many_ways_into_one_state_are_bounded_while_they_wait():
    many = [(0, 1, f"w{number}", -float(number % 7), -1.0) for number in range(60)]
    lattice = from_arcs("u", 3, 0, 2, [*many, (1, 2, "end", 0.0, -1.0)])
    lm = HashLM()
    options = BeamOptions(None, None, 5, None)
    scored = rescore("beam", lattice, ScoreWeights(1.0, 1.0, (0.1,)), lm, options=options)
    assert lm.most <= 2 * 5 + 1
    assert list(found(scored, 1)) == list(
        found(rescore("exact", lattice, ScoreWeights(1.0, 1.0, (0.1,)), HashLM()), 1)
    )


def test_what_no_lm_can_score_is_an_error_and_never_wins():
    lattice = from_arcs("u", 2, 0, 1, [(0, 1, "a", -1.0, 0.0), (0, 1, "b", -9.0, 0.0)])

    class Picky(HashLM):
        def one(self, history, word):
            return -math.inf if word == "a" else -1.0

    for name in LATTICE_MODES:
        for gain in (1.0, -1.0):
            scored = rescore(name, lattice, ScoreWeights(1.0, 1.0, (gain,)), Picky())
            assert DECISIONS["map"](scored, 1.0) == "b"
    only_a = from_arcs("u", 2, 0, 1, [(0, 1, "a", -1.0, 0.0)])
    for name in LATTICE_MODES:
        with pytest.raises(
            (InputError, ValueError), match=r"lattice u: no (path|hypothesis) with a finite"
        ):
            DECISIONS["map"](rescore(name, only_a, WEIGHTS, Picky()), 1.0)


@pytest.mark.parametrize("name", LATTICE_MODES)
def test_a_lattice_without_words_is_its_sentence_end(name):
    silence = from_arcs("u", 2, 0, 1, [(0, 1, "", -3.0, 0.0)])
    assert found(rescore(name, silence, WEIGHTS, HashLM())) == pytest.approx(
        truth(silence, WEIGHTS, HashLM())
    )
    point = from_arcs("u", 1, 0, 0, [])
    scored = rescore(name, point, WEIGHTS, HashLM())
    for decide in DECISIONS.values():
        assert decide(scored, 1.0) == ""


@pytest.mark.parametrize("seed", range(20))
def test_mbr_over_the_list_is_that_of_all_pairs(seed):
    lattice = random_lattice(seed)
    if not all_paths(lattice):
        return
    scored = rescore("exact", lattice, WEIGHTS, HashLM())
    from rapidfuzz.distance import Levenshtein

    totals = found(scored)
    mass = {text: math.exp(0.5 * total) for text, total in totals.items()}
    risk = {
        text: sum(m * Levenshtein.distance(text.split(), o.split()) for o, m in mass.items())
        for text in totals
    }
    chosen = DECISIONS["mbr"](scored, 0.5)
    assert risk[chosen] == pytest.approx(min(risk.values()))
    for decision in ("mbr", "consensus"):
        assert DECISIONS[decision](scored, 1000.0) == DECISIONS["map"](scored, 1.0)


def test_minimum_risk_by_hand():
    hyps = [["x"], ["a", "b"], ["a", "c"], ["a", "d"]]
    totals = np.log([0.34, 0.22, 0.22, 0.22])  # "x": 2 * 0.66; "a b": 2 * 0.34 + 0.44
    assert minimum_risk(hyps, totals, 1.0) == 1
    assert minimum_risk(hyps, totals, 5.0) == 0
    with pytest.raises(ValueError, match="posterior scale is -1"):
        minimum_risk(hyps, np.zeros(4), -1)


def test_the_number_of_lms_must_be_that_of_their_weights():
    with pytest.raises(ValueError, match="0 LMs for 1 LM weights"):
        list(rescore_lattices([], LATTICE_MODES["nbest"], (), WEIGHTS, NbestOptions()))
    for options in (
        lambda: NbestOptions(0),
        lambda: ExactOptions(0),
        lambda: CoverOptions(-1),
        lambda: BeamOptions(-1),
        lambda: BeamOptions(beam=math.nan),
        lambda: BeamOptions(frontier=0),
        lambda: BeamOptions(parallel=0),
    ):
        with pytest.raises(ValueError, match="expected"):
            options()
