"""One lattice in every lattice format: the same best total and the same log-sum of all paths."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from asrprune.core.lattice.lattice import Lattice, from_arcs
from asrprune.core.lattice.paths import best_path
from asrprune.core.weights import ScoreWeights
from asrprune.firstpass.formats.table import FORMATS, read_items

LN = math.log(1.0001)
# acoustic scores are whole numbers of pocketsphinx's log base; word on the arc, LM score
ARCS = [
    (0, 1, "the", -10000, -1.5),
    (0, 2, "a", -20000, -0.25),
    (1, 3, "cat", -5000, -2.0),
    (2, 3, "cat", -1000, -3.0),
    (3, 4, "", -300, 0.0),
    (1, 4, "", -40000, 0.0),
]
LATTICE = from_arcs("u-1", 5, 0, 4, [(s, d, w, a * LN, lm) for s, d, w, a, lm in ARCS])
# the same acoustic scores with words on nodes: states in front of nodes, "cat" once
POCKETSPHINX = """\
# -logbase 1.000100e+00
Frames 40
Nodes 5 (NODEID WORD STARTFRAME FIRST-ENDFRAME LAST-ENDFRAME)
0 <s> 0 0 9 ; 0
1 the 10 10 19 ; 1
2 a 10 10 19 ; 2
3 cat(2) 20 20 29 ; 3
4 </s> 30 30 39 ; 4
Initial 0
Final 4
BestSegAscr 0 (NODEID ENDFRAME ASCORE)
Edges (FROM-NODEID TO-NODEID ASCORE)
0 1 -10000
0 2 -20000
1 3 -5000
2 3 -1000
3 4 -300
1 4 -40000
End
"""
WEIGHTS = {"acoustic": ScoreWeights(1.0, 0.0), "both": ScoreWeights(0.7, 1.3, (), -0.5)}
PATHS = [(0, 2, 4), (1, 3, 4), (0, 5)]
"""The three paths of LATTICE, as arcs."""


def _written(name: str) -> Callable[[Path], Lattice]:
    def through(folder: Path) -> Lattice:
        entry = FORMATS[name]
        assert entry.write is not None
        entry.write(str(folder / "out"), [LATTICE])
        (again,) = read_items(name, str(folder / "out"), {})
        assert isinstance(again, Lattice)
        return again

    return through


def _pocketsphinx(folder: Path) -> Lattice:
    (folder / "u-1.lat").write_text(POCKETSPHINX, encoding="utf-8")
    (lattice,) = read_items("pocketsphinx-lat", str(folder / "u-1.lat"), {})
    assert isinstance(lattice, Lattice)
    return lattice


SOURCES = {
    name: _pocketsphinx if entry.write is None else _written(name)
    for name, entry in FORMATS.items()
    if entry.kind == "lattice"
}


def _totals(weights: ScoreWeights) -> list[float]:
    totals = []
    for path in PATHS:
        arcs = [ARCS[arc] for arc in path]
        words = sum(arc[2] != "" for arc in arcs)
        acoustic, lm = LN * sum(arc[3] for arc in arcs), sum(arc[4] for arc in arcs)
        totals.append(weights.total(acoustic, lm, (), words))
    return totals


def _log_sum(lattice: Lattice, weights: ScoreWeights) -> float:
    """ln of the sum of exp(total) over all paths, state by state (any order of the arcs)."""
    lm = [0.0] * lattice.n_arcs if lattice.lm is None else lattice.lm.tolist()
    columns = (lattice.src, lattice.dst, lattice.acoustic)
    arcs = list(zip(*(values.tolist() for values in columns), lm, lattice.arc_words()))

    def after(state: int) -> float:
        if state == lattice.final:
            return 0.0
        values = [
            weights.total(acoustic, score, (), int(word != "")) + after(target)
            for source, target, acoustic, score, word in arcs
            if source == state
        ]
        return math.log(sum(math.exp(value) for value in values)) if values else -math.inf

    return after(lattice.start)


@pytest.mark.parametrize("scores", WEIGHTS)
@pytest.mark.parametrize("name", SOURCES)
def test_totals_are_those_added_up_by_hand(tmp_path: Path, name: str, scores: str) -> None:
    lattice = SOURCES[name](tmp_path)
    weights = WEIGHTS[scores]
    if lattice.lm is None and scores == "both":
        assert "lm" not in FORMATS[name].holds or name == "pocketsphinx-lat"
        return
    totals = _totals(weights)
    best = best_path(lattice, weights)
    assert best is not None
    # k2 and Kaldi's binary files keep float32
    assert weights.total(best.acoustic, best.lm, (), len(best.words)) == pytest.approx(
        max(totals), rel=1e-6
    )
    assert _log_sum(lattice, weights) == pytest.approx(
        math.log(sum(math.exp(total) for total in totals)), rel=1e-6
    )
