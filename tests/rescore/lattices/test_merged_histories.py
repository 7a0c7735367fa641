"""Histories in the beam: how many words tell hypotheses apart, and which history is kept."""

from __future__ import annotations

import numpy as np
import pytest

from asrprune.core.lattice.lattice import from_arcs
from asrprune.core.weights import ScoreWeights
from asrprune.rescore.lattices.beam_mode import BeamOptions, rescore_beam
from tests.lattices import all_paths, random_lattice

PLAIN = ScoreWeights(1.0, 1.0, (1.0,), 0.0)


class Stated:
    """A PrefixLM that says ln P of a word behind its whole history, 0 where it was told nothing."""

    name = "stated"

    def __init__(self, log_probs=()):
        self.log_probs = dict(log_probs)
        self.tokens = 0
        self._prefixes = {}

    def root(self, group):
        return self._add(())

    def child(self, prefix, word):
        return self._add((*self._prefixes[prefix], word))

    def score(self, pairs):
        asked = [" ".join((*self._prefixes[prefix], word)) for prefix, word in pairs]
        return np.array([self.log_probs.get(one, 0.0) for one in asked])

    def keep(self, prefixes):
        pass

    def _add(self, words):
        self._prefixes[len(self._prefixes)] = words
        return len(self._prefixes) - 1


def beam(lattice, history, lm=None):
    options = BeamOptions(history, None, None, None)
    (found,) = rescore_beam([lattice], [lm or Stated()], PLAIN, options)
    return found


@pytest.mark.parametrize("history", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_states_are_told_apart_by_so_many_words(seed, history):
    """One state for every lattice state and the last words with which a path comes to it."""
    lattice = random_lattice(seed)
    if not all_paths(lattice):
        return
    words = lattice.arc_words()
    seen = set()
    for path in all_paths(lattice):
        said = ()
        seen.add((lattice.start, said))
        for arc in path:
            said = (*said, words[arc]) if words[arc] else said
            seen.add((int(lattice.dst[arc]), said[max(0, len(said) - history) :]))
    found = beam(lattice, history)
    assert found.lattice.n_states == len(seen) + 1  # and the last one, behind </s>


def test_a_merged_state_keeps_the_history_with_the_best_total():
    """Two ways of one word into a state; what follows is scored behind the better of them."""
    arcs = [(0, 1, "bad", -5.0, 0.0), (0, 1, "good", -1.0, 0.0), (1, 2, "x", 0.0, 0.0)]
    for order in (arcs, [arcs[1], arcs[0], arcs[2]]):
        lattice = from_arcs("u", 3, 0, 2, order)
        lm = Stated({"bad x": -0.25, "good x": -0.5, "good x </s>": -2.0, "bad x </s>": -3.0})
        merged = beam(lattice, 0, lm)
        best, second = merged.best(2)
        assert (best.words(merged.lattice), best.total) == (("good", "x"), -1.0 - 0.5 - 2.0)
        assert (second.words(merged.lattice), second.total) == (("bad", "x"), -5.0 - 0.5 - 2.0)
        apart = beam(lattice, 1, lm)
        best, second = apart.best(2)
        assert (best.total, second.total) == (-3.5, -5.0 - 0.25 - 2.0)
    whole = beam(lattice, None, lm).best(2)
    assert [path.total for path in whole] == pytest.approx([-3.5, -8.25])
