"""Every entry of the format table keeps the contract of its kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice import Lattice, from_arcs
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.firstpass.formats import FORMATS, lattice_nbest

NBESTS = [
    NBest("s-1", (Hypothesis("a b", -1.5), Hypothesis("", -2.0)), None, "a c"),
    NBest("s-2", (Hypothesis("i", -0.25),)),
]
LATTICES = [
    from_arcs("s-1", 3, 0, 2, [(0, 1, "a", -1.0, -2.0), (1, 2, "", -1.0, 0.0)]),
    from_arcs("s-2", 2, 0, 1, [(0, 1, "i", -1.0, -2.0), (0, 1, "", -1.0, 0.0)]),
]
LAT = """\
# getcwd: /x
# -logbase 1.000100e+00
#
Frames 30
#
Nodes 4 (NODEID WORD STARTFRAME FIRST-ENDFRAME LAST-ENDFRAME)
0 </s> 20 29 29 ; 0
1 to(2) 5 19 19 ; 1
2 <sil> 5 19 19 ; 2
3 <s> 0 4 4 ; 3
#
Initial 3
Final 0
#
BestSegAscr 0 (NODEID ENDFRAME ASCORE)
#
Edges (FROM-NODEID TO-NODEID ASCORE)
3 1 -10000
3 2 -20000
1 0 -30000
2 0 -10000
End
"""


@pytest.mark.parametrize("name", list(FORMATS))
def test_entries_are_complete(name: str) -> None:
    entry = FORMATS[name]
    assert entry.name == name
    assert entry.kind in ("nbest", "lattice")
    assert entry.description
    assert entry.extensions


@pytest.mark.parametrize("name", [n for n, entry in FORMATS.items() if entry.write is not None])
def test_write_then_read_keeps_utterances_words_and_scores(tmp_path: Path, name: str) -> None:
    entry = FORMATS[name]
    items = NBESTS if entry.kind == "nbest" else LATTICES
    assert entry.write is not None
    path = str(tmp_path / f"out.{entry.extensions[0]}")
    entry.write(path, items)
    again = list(entry.read(path))
    if entry.kind == "nbest":
        assert again == NBESTS
        return
    for old, new in zip(LATTICES, again):
        assert isinstance(new, Lattice)
        assert lattice_nbest(new, 9, ScoreWeights()) == lattice_nbest(old, 9, ScoreWeights())
    with pytest.raises(ValueError, match="comes twice"):
        entry.write(path, [*items, items[0]])


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"{}", b"one two three\n", b"[1]"])
def test_hostile_files_raise_one_input_error(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / f"x.{FORMATS[name].extensions[0]}"
    path.write_bytes(content)
    if (name, content) == ("mlm-json", b"{}"):
        assert list(FORMATS[name].read(str(path))) == []
        return
    with pytest.raises(InputError):
        list(FORMATS[name].read(str(path)))
    with pytest.raises(InputError):
        list(FORMATS[name].read(str(tmp_path / "missing")))


def test_pocketsphinx_lattice_by_hand(tmp_path: Path) -> None:
    (tmp_path / "u.lat").write_text(LAT, encoding="utf-8")
    (lattice,) = FORMATS["pocketsphinx-lat"].read(str(tmp_path / "u.lat"))
    assert isinstance(lattice, Lattice)
    nbest = lattice_nbest(lattice, 5, ScoreWeights(1.0, 0.0))
    assert nbest.utt == "u"
    assert [hyp.text for hyp in nbest.hyps] == ["", "to"]
    # ln 1.0001 is 9.9995e-5
    assert [hyp.acoustic for hyp in nbest.hyps] == pytest.approx([-2.99985, -3.9998], abs=1e-5)
    (tmp_path / "u.lat").write_text(LAT.replace("End\n", ""), encoding="utf-8")
    with pytest.raises(InputError, match="before 'End'"):
        list(FORMATS["pocketsphinx-lat"].read(str(tmp_path / "u.lat")))


def test_hyporadise_keeps_ranks_and_drops_copies(tmp_path: Path) -> None:
    text = '[{"input": ["b  a", "c", "b a"], "output": "b"}, {"input": [""], "output": "i"}]'
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    lists = list(FORMATS["hyporadise"].read(str(tmp_path / "x.json")))
    assert lists == [
        NBest("000001", (Hypothesis("b a"), Hypothesis("c")), None, "b"),
        NBest("000002", (Hypothesis(""),), None, "i"),
    ]


def test_mlm_json_orders_by_number_and_refuses_a_split_score(tmp_path: Path) -> None:
    text = '{"u": {"hyp_10": {"score": -3, "text": "j"}, "hyp_2": {"score": -1, "text": "b"}}}'
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    (nbest,) = FORMATS["mlm-json"].read(str(tmp_path / "x.json"))
    assert nbest == NBest("u", (Hypothesis("b", -1.0), Hypothesis("j", -3.0)))
    write = FORMATS["mlm-json"].write
    assert write is not None
    with pytest.raises(ValueError, match="holds one score"):
        write(str(tmp_path / "y.json"), [NBest("u", (Hypothesis("a", -1.0, -2.0),))])
