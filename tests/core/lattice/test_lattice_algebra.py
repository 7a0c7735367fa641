"""Path cover, history expansion, oracle path and unions against enumeration of all paths."""

from __future__ import annotations

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.history import expand_history
from asrprune.core.lattice.lattice import arc_totals, from_arcs
from asrprune.core.lattice.oracle import oracle_words
from asrprune.core.lattice.paths import k_best, k_best_paths, path_cover
from asrprune.core.lattice.union import union_of_nbest, union_of_paths
from asrprune.core.weights import ScoreWeights
from tests.lattices import WEIGHTS, all_paths, brute_force, path_total, random_lattice

SEEDS = range(30)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_covering_path_is_the_best_through_one_of_its_arcs(seed: int) -> None:
    lattice = random_lattice(seed, n_arcs=22)
    paths = all_paths(lattice)
    totals = {tuple(path): path_total(lattice, path, WEIGHTS)[0] for path in paths}
    through = {
        arc: max(total for path, total in totals.items() if arc in path)
        for arc in {arc for path in paths for arc in path}
    }
    cover = path_cover(lattice, arc_totals(lattice, WEIGHTS))
    assert {arc for path in cover for arc in path.arcs} == set(through)
    for path in cover:
        assert path.total == pytest.approx(totals[path.arcs])
        assert any(path.total == pytest.approx(through[arc]) for arc in path.arcs)
    assert len(cover) == len({path.arcs for path in cover}) <= len(through)
    assert [path.total for path in cover] == sorted((p.total for p in cover), reverse=True)


def test_a_cover_is_smaller_than_one_path_for_each_arc() -> None:
    words = [
        (i, i + 1, f"{name}{i}", -cost, None)
        for i in range(6)
        for name, cost in zip("ab", (1.0, 2.0))
    ]
    lattice = from_arcs("u", 7, 0, 6, words)
    cover = path_cover(lattice, arc_totals(lattice, ScoreWeights(1.0, 0.0)))
    assert len(cover) == 6  # each second-best word needs a path; the best words ride along


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n_words", [0, 1, 2])
def test_expansion_keeps_the_paths_and_makes_histories_unique(seed: int, n_words: int) -> None:
    lattice = random_lattice(seed)
    expanded, histories = expand_history(lattice, n_words)
    assert brute_force(expanded, WEIGHTS) == pytest.approx(brute_force(lattice, WEIGHTS))
    words = expanded.arc_words()
    for path in all_paths(expanded):
        so_far = ["<s>"] if n_words else []
        for arc in path:
            assert histories[expanded.src[arc]] == tuple(so_far)
            so_far = [*so_far, words[arc]] if words[arc] else so_far
            so_far = so_far[len(so_far) - n_words :] if len(so_far) > n_words else so_far


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ref", ["", "a", "a b c a", "x a b", "c c c c c c c c"])
def test_the_oracle_path_has_the_fewest_errors(seed: int, ref: str) -> None:
    lattice = random_lattice(seed)
    texts = list(brute_force(lattice, WEIGHTS))
    if not texts:
        with pytest.raises(ValueError, match="no path"):
            oracle_words(lattice, ref.split())
        return
    found = oracle_words(lattice, ref.split())
    fewest = min(Levenshtein.distance(text.split(), ref.split()) for text in texts)
    assert " ".join(found) in texts
    assert Levenshtein.distance(list(found), ref.split()) == fewest


def test_the_union_of_a_list_holds_its_hypotheses() -> None:
    hyps = (
        Hypothesis("a b", -1.0, -2.0),
        Hypothesis("a", -3.0, -1.0),
        Hypothesis("", -9.0, -0.5),
        Hypothesis("a c", -4.0, -2.5),
    )
    lattice = union_of_nbest(NBest("u", hyps, 2.5), WEIGHTS)
    assert lattice.weights == WEIGHTS
    assert lattice.audio_s == 2.5
    assert set(k_best(lattice, 10, WEIGHTS)) == set(hyps)
    assert sum(bool(word) for word in lattice.arc_words()) == 3  # "a" is there once
    again = union_of_nbest(NBest("u", (hyps[0], Hypothesis("a b", -0.5, -2.0))))
    assert [h.acoustic for h in k_best(again, 5, WEIGHTS)] == [-0.5]


def test_a_list_that_is_no_lattice_is_refused() -> None:
    with pytest.raises(ValueError, match="no hypothesis"):
        union_of_nbest(NBest("u", ()))
    with pytest.raises(ValueError, match="no acoustic score of hypothesis 2"):
        union_of_nbest(NBest("u", (Hypothesis("a", 0.0), Hypothesis("b"))))
    with pytest.raises(ValueError, match="arcs have an LM score"):
        union_of_nbest(NBest("u", (Hypothesis("a", 0.0, 0.0), Hypothesis("b", 0.0))))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_union_of_paths_is_those_paths(seed: int) -> None:
    lattice = random_lattice(seed)
    paths = k_best_paths(lattice, 4, arc_totals(lattice, WEIGHTS))
    if not paths:
        return
    trie = union_of_paths(lattice, [path.arcs for path in paths])
    totals = arc_totals(trie.lattice, WEIGHTS)
    for path, places in zip(paths, trie.places):
        assert totals[list(places)].sum() == pytest.approx(path.total)
    assert k_best(trie.lattice, 9, WEIGHTS) == k_best(lattice, 4, WEIGHTS)
    assert len(all_paths(trie.lattice)) == len(paths)
    assert trie.lattice.n_arcs <= sum(len(path.arcs) + 1 for path in paths)


def test_a_path_knows_its_words_and_scores() -> None:
    lattice = from_arcs("u", 3, 0, 2, [(0, 1, "a", -1.0, -2.0), (1, 2, "", -0.5, 0.0)])
    (path,) = k_best_paths(lattice, 3, arc_totals(lattice, WEIGHTS))
    assert path.arcs == (0, 1)
    assert path.hypothesis(lattice) == Hypothesis("a", -1.5, -2.0)
    np.testing.assert_allclose(path.total, WEIGHTS.total(-1.5, -2.0, (), 1))
