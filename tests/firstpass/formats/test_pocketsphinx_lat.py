"""pocketsphinx's lattices: where its words stand, and in which base its scores are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from asrprune.core.lattice.lattice import arc_totals
from asrprune.core.lattice.paths import k_best_paths
from asrprune.core.weights import ScoreWeights
from asrprune.firstpass.formats.pocketsphinx_lat import read_pocketsphinx_lat

LAT = """\
# -logbase {base}
Frames 30
Nodes 4 (NODEID WORD STARTFRAME FIRST-ENDFRAME LAST-ENDFRAME)
0 end 20 29 29 ; 0
1 left(2) 5 19 19 ; 1
2 right 5 19 19 ; 2
3 <s> 0 4 4 ; 3
Initial 3
Final 0
BestSegAscr 0 (NODEID ENDFRAME ASCORE)
Edges (FROM-NODEID TO-NODEID ASCORE)
3 1 -10000
3 2 -20000
1 0 -30000
2 0 -5000
End
"""


@pytest.mark.parametrize("base", [1.0001, 1.0003, 1.003])
def test_words_are_said_behind_the_edge_that_enters_them_in_the_base_of_the_file(
    tmp_path: Path, base: float
) -> None:
    """The last node is a word where the utterance is cut off inside it: it is said too."""
    (tmp_path / "u.lat").write_text(LAT.format(base=base), encoding="utf-8")
    lattice = read_pocketsphinx_lat(tmp_path / "u.lat")
    assert lattice.times is not None
    assert lattice.times.tolist() == [0.2, 0.05, 0.05, 0.0]
    paths = k_best_paths(lattice, 5, arc_totals(lattice, ScoreWeights(1.0, 0.0)))
    assert [path.words(lattice) for path in paths] == [("right", "end"), ("left", "end")]
    scores = [-25000 * math.log(base), -40000 * math.log(base)]
    assert [path.total for path in paths] == pytest.approx(scores)
    ends = dict(zip(lattice.arc_words(), lattice.dst.tolist()))
    assert ends == {"left": 1, "right": 2, "end": 0}
