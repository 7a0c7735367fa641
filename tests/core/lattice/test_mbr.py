"""Minimum Bayes risk against expectations added up path by path."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from asrprune.core.lattice import mbr
from asrprune.core.lattice.lattice import Floats, Lattice, arc_totals, from_arcs, sorted_arcs
from asrprune.core.lattice.mbr import _Grid, _with_gaps, lattice_mbr
from asrprune.core.lattice.paths import best_path
from asrprune.core.weights import ScoreWeights
from tests.lattices import WEIGHTS, all_paths, path_total, random_lattice
from tests.quick import slow

ACOUSTIC = ScoreWeights(1.0, 0.0)


def true_risk(lattice: Lattice, weights: ScoreWeights, scale: float, words: list[str]) -> float:
    scored = [path_total(lattice, path, weights) for path in all_paths(lattice)]
    mass = np.exp(scale * np.array([total for total, _ in scored]))
    errors = [Levenshtein.distance(text.split(), words) for _, text in scored]
    return float((mass * errors).sum() / mass.sum())


def expected_errors(lattice: Lattice, totals: Floats, scale: float, words: list[str]) -> float:
    """The bound of ``lattice_mbr`` on the expected errors of ``words``, from all arcs."""
    full, numbers = sorted_arcs(lattice)
    ids = {word: index for index, word in enumerate(full.words)}
    wanted = _with_gaps([ids.get(word, -1) for word in words])
    return _Grid(full, scale * totals[numbers]).expected_errors(wanted)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("scale", [0.2, 1.0])
def test_the_expectation_bounds_the_true_one_and_falls(seed: int, scale: float) -> None:
    lattice = random_lattice(seed)
    best = best_path(lattice, WEIGHTS)
    if best is None:
        return
    totals = arc_totals(lattice, WEIGHTS)
    result = lattice_mbr(lattice, totals, scale)
    for words, bound in (
        (list(result.words), result.expected_errors),
        (list(best.words), result.map_expected_errors),
        (["a", "x"], expected_errors(lattice, totals, scale, ["a", "x"])),
    ):
        assert true_risk(lattice, WEIGHTS, scale, words) <= bound + 1e-4
    assert result.expected_errors <= result.map_expected_errors
    assert expected_errors(lattice, totals, scale, list(result.words)) == pytest.approx(
        result.expected_errors, abs=1e-4
    )


def confusion_network(seed: int) -> Lattice:
    """Slots of words of their own, one behind the other: here the bound is tight."""
    draw = np.random.default_rng(seed)
    arcs = []
    for slot in range(4):
        words = [f"{letter}{slot}" for letter in "abc"]
        arcs += [(slot, slot + 1, str(word), -float(draw.exponential()), 0.0) for word in words]
    return from_arcs("u", 5, 0, 4, arcs)


@pytest.mark.parametrize("seed", [0, *slow(range(1, 20))])
def test_on_a_confusion_network_the_result_is_the_best_of_all_word_sequences(seed: int) -> None:
    lattice = confusion_network(seed)
    totals = arc_totals(lattice, ACOUSTIC)
    result = lattice_mbr(lattice, totals, 1.0)
    slots = [["", f"a{slot}", f"b{slot}", f"c{slot}"] for slot in range(4)]
    risks = {
        words: true_risk(lattice, ACOUSTIC, 1.0, [word for word in words if word])
        for words in itertools.product(*slots)
    }
    assert result.expected_errors == pytest.approx(min(risks.values()), abs=1e-5)
    assert true_risk(lattice, ACOUSTIC, 1.0, list(result.words)) == pytest.approx(
        min(risks.values()), abs=1e-5
    )


def test_many_weak_paths_outvote_a_strong_one() -> None:
    # the best path says "x"; three others agree on "a" and differ behind it
    arcs = [(0, 1, "x", math.log(0.35), 0.0), (1, 4, "", 0.0, 0.0)]
    arcs += [(0, 2, "a", 0.0, 0.0)]
    arcs += [(2, 4, word, math.log(0.65 / 3), 0.0) for word in ("b", "c", "d")]
    lattice = from_arcs("u", 5, 0, 4, arcs)
    totals = arc_totals(lattice, ACOUSTIC)
    best = best_path(lattice, ACOUSTIC)
    assert best is not None
    assert best.text == "x"
    found = lattice_mbr(lattice, totals, 1.0)
    assert found.words[0] == "a"
    assert true_risk(lattice, ACOUSTIC, 1.0, list(found.words)) < true_risk(
        lattice, ACOUSTIC, 1.0, ["x"]
    )


def test_the_best_path_takes_part_however_small_its_posterior(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mbr, "SMALLEST_POSTERIOR", 0.5)
    arcs = [(0, 1, word, -float(number), 0.0) for number, word in enumerate("bacd")]
    lattice = from_arcs("u", 2, 0, 1, arcs)
    found = lattice_mbr(lattice, arc_totals(lattice, ACOUSTIC), 0.1)
    assert found == mbr.MbrResult(("b",), 0.0, 0.0)


def test_a_large_scale_gives_the_best_path_and_a_bad_one_is_refused() -> None:
    lattice = random_lattice(2)
    best = best_path(lattice, WEIGHTS)
    assert best is not None
    totals = arc_totals(lattice, WEIGHTS)
    assert lattice_mbr(lattice, totals, 1000.0).words == best.words
    with pytest.raises(ValueError, match="posterior scale is 0"):
        lattice_mbr(lattice, totals, 0)
    assert lattice_mbr(from_arcs("u", 1, 0, 0, []), np.zeros(0), 1.0).words == ()
