"""What chooses the paths before any LM is asked: the first pass's LM stands in for the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from asrprune.core.lattice.lattice import from_arcs
from asrprune.core.weights import ScoreWeights
from asrprune.rescore.lattices.path_modes import NbestOptions, rescore_nbest
from asrprune.rescore.lattices.scored_lattice import ranking_weights

LATTICE = from_arcs("u", 2, 0, 1, [(0, 1, "a", -1.0, -9.0), (0, 1, "b", -3.0, -2.0)])


@pytest.mark.parametrize(
    ("lm", "first_lm"), [((), 0.5), ((0.0,), 0.5), ((2.0,), 2.5), ((2.0, 1.0), 3.5), ((-1.0,), 0.5)]
)
def test_its_weight_is_that_of_all_lms(lm: tuple[float, ...], first_lm: float) -> None:
    weights = ScoreWeights(0.7, 0.5, lm, -0.2)
    assert ranking_weights(LATTICE, weights) == ScoreWeights(0.7, first_lm, (), -0.2)
    bare = replace(LATTICE, lm=None)
    assert ranking_weights(bare, weights) == ScoreWeights(0.7, 0.5, (), -0.2)


class Asked:
    """A WordScorer that notes what it is asked for."""

    name = "asked"
    tokens = 0

    def score_words(self, lists):
        self.words = [list(map(list, hyps)) for hyps in lists]
        return [[LATTICE.acoustic[:1].repeat(len(hyp) + 1) for hyp in hyps] for hyps in lists]


@pytest.mark.parametrize(("gain", "word"), [(0.1, "a"), (1.0, "b")])
def test_a_list_of_one_holds_what_the_first_pass_would_choose_at_that_weight(gain, word):
    """a: -1 - 9 w, b: -3 - 2 w with w the weight of all LMs together; equal at w = 2/7."""
    lm = Asked()
    rescore_nbest([LATTICE], [lm], ScoreWeights(1.0, 0.0, (gain,), 0.0), NbestOptions(1))
    assert lm.words == [[[word]]]
