"""Random lattices and plain enumeration of their paths: what the algorithms are held against."""

from __future__ import annotations

import math
import random

import numpy as np

from asrprune.core.lattice.lattice import Lattice, from_arcs
from asrprune.core.weights import ScoreWeights

WEIGHTS = ScoreWeights(0.7, 2.5, (), -0.3)


def random_lattice(seed: int, n_states: int = 7, n_arcs: int = 16) -> Lattice:
    """Shuffled state numbers, epsilons, parallel arcs, repeated words, dead ends."""
    draw = random.Random(seed)
    names = list(range(n_states))
    draw.shuffle(names)
    arcs = []
    for _ in range(n_arcs):
        one, two = sorted(draw.sample(range(n_states), 2))
        word = draw.choice(["", "", "a", "b", "c"])
        scores = (-draw.uniform(0, 9), -draw.uniform(0, 3))
        arcs.append((names[one], names[two], word, *scores))
    return from_arcs("u", n_states, names[0], names[-1], arcs)


def all_paths(lattice: Lattice) -> list[list[int]]:
    """The arc numbers of every path, by plain recursion."""
    found = []

    def walk(state: int, path: list[int]) -> None:
        if state == lattice.final:
            found.append(path)
        for arc in np.flatnonzero(lattice.src == state).tolist():
            walk(int(lattice.dst[arc]), [*path, arc])

    walk(lattice.start, [])
    return found


def path_total(lattice: Lattice, path: list[int], weights: ScoreWeights) -> tuple[float, str]:
    words = [w for w in (lattice.arc_words()[arc] for arc in path) if w]
    assert lattice.lm is not None
    acoustic, lm = lattice.acoustic[path].sum(), lattice.lm[path].sum()
    return weights.total(float(acoustic), float(lm), (), len(words)), " ".join(words)


def brute_force(lattice: Lattice, weights: ScoreWeights) -> dict[str, float]:
    best: dict[str, float] = {}
    for path in all_paths(lattice):
        total, text = path_total(lattice, path, weights)
        best[text] = max(total, best.get(text, -math.inf))
    return best
