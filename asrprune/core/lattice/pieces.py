"""Lattices over word pieces as lattices over words."""

from __future__ import annotations

from typing import Optional

from asrprune.core.lattice.lattice import Lattice, from_copies, sorted_lattice

WORD_START = "\u2581"
"""SentencePiece's sign for a space: a piece that begins with it begins a word."""

_MOST_ARCS = 1_000_000
_UNKNOWN = "<unk>"
_Leaving = list[list[tuple[int, str, float, Optional[float]]]]


def words_of_pieces(lattice: Lattice) -> Lattice:
    """The same paths with whole words on the arcs, of a lattice whose words are pieces.

    A word is a piece that begins with ``WORD_START`` (or the first of a path, or ``<unk>``) and
    those up to the next such piece; its scores are the sums of theirs. States in the middle of
    words are gone: each way through them is an arc of its own. Raises ValueError for more than a
    million arcs, and on a cycle.
    """
    lattice = sorted_lattice(lattice)
    leaving: _Leaving = [[] for _ in range(lattice.n_states)]
    lm: list[Optional[float]] = [None] * lattice.n_arcs
    if lattice.lm is not None:
        lm = list(lattice.lm.tolist())
    columns = (lattice.src.tolist(), lattice.dst.tolist(), lattice.arc_words())
    for source, target, piece, acoustic, score in zip(*columns, lattice.acoustic.tolist(), lm):
        leaving[source].append((target, piece, acoustic, score))
    # a copy of a state: (state, the piece that has been read and begins the next word)
    origin = [lattice.start]
    number = {(lattice.start, ""): 0}
    arcs: list[tuple[int, int, str, float, Optional[float]]] = []
    nothing = None if lattice.lm is None else 0.0
    todo = [(lattice.start, "")]
    ends: list[tuple[int, str, float, Optional[float]]] = []
    while todo:
        key = todo.pop()
        waiting = [(key[0], key[1], 0.0, nothing)]
        while waiting:
            state, word, acoustic, score = waiting.pop()
            if state == lattice.final:
                ends.append((number[key], word, acoustic, score))
            for target, piece, more, own in leaving[state]:
                both = None if score is None or own is None else score + own
                if not (piece.startswith(WORD_START) or piece == _UNKNOWN) or not word:
                    waiting.append((target, word + piece, acoustic + more, both))
                else:  # the scores of the piece that begins the next word go along
                    there = (target, piece)
                    if there not in number:
                        number[there] = len(origin)
                        origin.append(target)
                        todo.append(there)
                    arcs.append((number[key], number[there], _word(word), acoustic + more, both))
            # each that waits becomes an arc at least
            if len(arcs) + len(ends) + len(waiting) > _MOST_ARCS:
                raise ValueError(f"lattice {lattice.utt}: more than {_MOST_ARCS} words on arcs")
    final = len(origin)
    arcs += [
        (source, final, _word(word), acoustic, score) for source, word, acoustic, score in ends
    ]
    return from_copies(lattice, [*origin, lattice.final], arcs)


def _word(pieces: str) -> str:
    return pieces.replace(WORD_START, "")
