"""Lattices against enumeration of all their paths."""

from __future__ import annotations

import math

import numpy as np
import pytest

from asrprune.core.lattice.lattice import (
    arc_totals,
    from_arcs,
    sorted_lattice,
    topological_order,
)
from asrprune.core.lattice.ngram_scores import expand_lm
from asrprune.core.lattice.paths import best_path, k_best, prune_lattice
from asrprune.core.lattice.posteriors import forward_backward
from asrprune.core.weights import ScoreWeights
from tests.lattices import WEIGHTS, all_paths, brute_force, path_total, random_lattice


@pytest.mark.parametrize("seed", range(40))
def test_k_best_is_what_enumeration_finds(seed: int) -> None:
    lattice = random_lattice(seed)
    truth = brute_force(lattice, WEIGHTS)
    for k in (1, 3, 1000):
        hyps = k_best(lattice, k, WEIGHTS)
        totals = [WEIGHTS.total(h.acoustic, h.lm, (), len(h.words)) for h in hyps]
        assert len({h.text for h in hyps}) == len(hyps) == min(k, len(truth))
        assert totals == sorted(totals, reverse=True)
        assert totals == pytest.approx(sorted(truth.values(), reverse=True)[:k])
        assert totals == pytest.approx([truth[h.text] for h in hyps])
    assert best_path(lattice, WEIGHTS) == (k_best(lattice, 1, WEIGHTS) or (None,))[0]


@pytest.mark.slow
def test_the_beam_of_k_best_widens_until_the_list_is_exact() -> None:
    lattice = random_lattice(3, n_states=14, n_arcs=90)
    truth = brute_force(lattice, WEIGHTS)
    hyps = k_best(lattice, 50, WEIGHTS)
    totals = [WEIGHTS.total(h.acoustic, h.lm, (), len(h.words)) for h in hyps]
    assert len(truth) > 50
    assert totals == pytest.approx(sorted(truth.values(), reverse=True)[:50])


@pytest.mark.parametrize("seed", range(15))
def test_posteriors_and_pruning_against_enumeration(seed: int) -> None:
    lattice = random_lattice(seed)
    paths = all_paths(lattice)
    if not paths:
        with pytest.raises(ValueError, match="no path"):
            forward_backward(lattice, arc_totals(lattice, WEIGHTS))
        return
    totals = np.array([path_total(lattice, path, WEIGHTS)[0] for path in paths])
    mass = np.exp(0.5 * totals) / np.exp(0.5 * totals).sum()
    expected = np.zeros(lattice.n_arcs)
    for path, share in zip(paths, mass):
        expected[path] += share
    forward, backward, scaled = forward_backward(lattice, 0.5 * arc_totals(lattice, WEIGHTS))
    through = forward[lattice.src] + scaled + backward[lattice.dst]
    np.testing.assert_allclose(np.exp(through - forward[lattice.final]), expected, atol=1e-12)
    kept = prune_lattice(lattice, WEIGHTS, 4.0)
    inside = {text: t for text, t in brute_force(lattice, WEIGHTS).items() if t > max(totals) - 4}
    after = brute_force(kept, WEIGHTS)
    assert {text: after[text] for text in inside} == pytest.approx(inside)
    alone = brute_force(prune_lattice(lattice, WEIGHTS, 0.0), WEIGHTS)
    assert list(alone.values()) == pytest.approx([max(totals)])


def test_rounding_takes_nothing_from_the_best_path() -> None:
    arcs = [(state, state + 1, "x", -(state + 1) / 10, 0.0) for state in range(3)]
    kept = prune_lattice(from_arcs("u", 4, 0, 3, arcs), ScoreWeights(), 0.0)
    assert -0.1 + (-0.2 - 0.3) != (-0.1 - 0.2) - 0.3
    assert kept.n_arcs == 3


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("order", [1, 2, 3])
def test_expanded_lm_scores_are_those_of_the_whole_sentence(seed: int, order: int) -> None:
    def score(history: tuple[str, ...], word: str) -> float:
        assert len(history) <= order - 1
        return -1.0 - (sum(map(ord, "|".join((*history, word)))) % 97) / 31.0

    def sentence(words: list[str]) -> float:
        line = ["<s>", *words, "</s>"]
        return sum(
            score(tuple(line[max(0, at - order + 1) : at]), line[at]) for at in range(1, len(line))
        )

    lattice = random_lattice(seed)
    acoustic_only = ScoreWeights(1.0, 0.0)
    expanded = expand_lm(lattice, score, order, sentence_end=True)
    hyps = k_best(expanded, 1000, acoustic_only)
    assert {h.text: h.acoustic for h in hyps} == pytest.approx(brute_force(lattice, acoustic_only))
    for hyp in hyps:
        assert hyp.lm == pytest.approx(sentence(list(hyp.words)))


def test_without_sentence_end_the_last_word_is_the_last_score() -> None:
    lattice = from_arcs("u", 2, 0, 1, [(0, 1, "a", -1.0, None)])
    expanded = expand_lm(lattice, lambda history, word: -5.0, 3, sentence_end=False)
    assert k_best(expanded, 1, ScoreWeights())[0].lm == -5.0


def test_a_cycle_names_a_state_on_it() -> None:
    arcs = [(0, 1, "a", 0.0, None), (1, 2, "", 0.0, None), (2, 1, "", 0.0, None)]
    lattice = from_arcs("loop", 5, 0, 4, [*arcs, (2, 3, "b", 0.0, None), (3, 4, "", 0.0, None)])
    with pytest.raises(ValueError, match=r"loop: state [12] is on a cycle"):
        topological_order(lattice)


def test_degenerate_lattices() -> None:
    nothing = from_arcs("u", 3, 0, 2, [(0, 1, "a", -1.0, None)])
    assert sorted_lattice(nothing).n_arcs == 0
    assert k_best(nothing, 5, ScoreWeights(1.0, 0.0)) == ()
    assert best_path(nothing, ScoreWeights(1.0, 0.0)) is None
    point = from_arcs("u", 1, 0, 0, [])
    assert [h.text for h in k_best(point, 5, ScoreWeights(1.0, 0.0))] == [""]
    dead = from_arcs("u", 2, 0, 1, [(0, 1, "a", -math.inf, None), (0, 1, "b", -2.0, None)])
    assert [h.text for h in k_best(dead, 5, ScoreWeights(1.0, 0.0))] == ["b"]


def test_an_impossible_arc_stays_so_under_a_negative_weight() -> None:
    dead = from_arcs("u", 2, 0, 1, [(0, 1, "a", -math.inf, -1.0), (0, 1, "", -2.0, -1.0)])
    assert arc_totals(dead, ScoreWeights(-0.5, 1.0, (), 0.25)).tolist() == [-math.inf, 0.0]


def test_wrong_lattices_and_weights_are_refused() -> None:
    good = from_arcs("u", 2, 0, 1, [(0, 1, "a", -1.0, None)])
    with pytest.raises(ValueError, match="LM scores are unknown"):
        k_best(good, 1, ScoreWeights())
    with pytest.raises(ValueError, match="k is 0"):
        k_best(good, 0, ScoreWeights(1.0, 0.0))
    with pytest.raises(ValueError, match="rescoring LM weights"):
        k_best(good, 1, ScoreWeights(1.0, 0.0, (1.0,)))
    with pytest.raises(ValueError, match="is not a score"):
        from_arcs("u", 2, 0, 1, [(0, 1, "a", math.nan, None)])
    with pytest.raises(ValueError, match="dst 2 is outside"):
        from_arcs("u", 2, 0, 1, [(0, 2, "a", 0.0, None)])
    with pytest.raises(ValueError, match="1 of 2 arcs"):
        from_arcs("u", 2, 0, 1, [(0, 1, "a", 0.0, None), (0, 1, "b", 0.0, -1.0)])
    with pytest.raises(ValueError, match="assignment destination is read-only"):
        good.acoustic[0] = 1.0
