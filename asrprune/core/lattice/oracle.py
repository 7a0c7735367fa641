"""The path of a lattice with the fewest word errors against a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from asrprune.core.lattice.lattice import EPSILON, Floats, Ints, Lattice, sorted_lattice


def oracle_words(lattice: Lattice, ref: Sequence[str]) -> tuple[str, ...]:
    """The words of a path with the smallest Levenshtein distance to ``ref``.

    Exact: for every state the distance of its best path to every prefix of the reference, states
    in topological order. Ties: the first arc by (source, destination). Time: arcs x words.
    Raises ValueError on a cycle and when the lattice has no path.
    """
    full = sorted_lattice(lattice)
    if full.start != full.final and not full.n_arcs:
        raise ValueError(f"lattice {lattice.utt}: no path from start to final state")
    ids: dict[str, int] = {}
    same = np.array([ids.setdefault(word, index) for index, word in enumerate(full.words)])
    target = np.array([ids.get(word, -1) for word in ref], dtype=np.int64)  # [R]
    distance = np.full((full.n_states, len(ref) + 1), np.inf)  # [S, R + 1]
    distance[full.start] = np.arange(len(ref) + 1)
    came = np.full(distance.shape, -1, dtype=np.int64)
    columns = (full.src.tolist(), full.dst.tolist(), same[full.word].tolist())
    for arc, (source, end, word) in enumerate(zip(*columns)):  # sorted by source
        here = _after_word(distance[source], target, word)
        better = here < distance[end]
        distance[end][better] = here[better]
        came[end][better] = arc
    return _trace(replace(full, word=same[full.word]), target, distance, came)


def _after_word(before: Floats, target: Ints, word: int) -> Floats:
    """The distances behind an arc with ``word``, [R + 1]."""
    if word == EPSILON:
        return before
    after = before + 1.0  # the word is inserted
    after[1:] = np.minimum(after[1:], before[:-1] + (target != word))
    steps = np.arange(len(after))  # reference words deleted: one more error each
    lowest: Floats = np.minimum.accumulate(after - steps) + steps
    return lowest


def _trace(lattice: Lattice, target: Ints, distance: Floats, came: Ints) -> tuple[str, ...]:
    """The words of the best path, from the final state and the whole reference back."""
    words = []
    state, place = lattice.final, len(target)
    while state != lattice.start:
        arc = int(came[state, place])
        source, word = int(lattice.src[arc]), int(lattice.word[arc])
        value, before = distance[state, place], distance[source]
        if word == EPSILON:
            state = source
        elif before[place] + 1.0 == value:
            words.append(lattice.words[word])
            state = source
        elif place and before[place - 1] + (target[place - 1] != word) == value:
            words.append(lattice.words[word])
            state, place = source, place - 1
        else:  # the reference word here is deleted
            place -= 1
    return tuple(reversed(words))
