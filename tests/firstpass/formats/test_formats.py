"""Every entry of the format table keeps the contract of its kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import Lattice, from_arcs
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.firstpass.formats.table import FORMATS, OPTIONS, Format, lattice_nbest, read_items

NBESTS = [
    NBest("s-1", (Hypothesis("a b", -1.5), Hypothesis("", -2.0)), None, "a c"),
    NBest("s-2", (Hypothesis("i", -0.25),)),
]
LATTICES = [
    from_arcs("s-1", 3, 0, 2, [(0, 1, "a", -1.0, -2.0), (1, 2, "", -1.0, 0.0)]),
    from_arcs("s-2", 2, 0, 1, [(0, 1, "i", -1.0, -2.0), (0, 1, "", -1.0, 0.0)]),
]
CYCLIC = from_arcs("s-3", 3, 0, 2, [(0, 1, "a", -1.0, -2.0), (1, 1, "b", 0.0, 0.0)])
WITH_LM = [
    NBest("a-b-1", (Hypothesis("a b", -1.5, 0.0), Hypothesis("", -2.0, -0.25))),
    NBest("a-b-2", (Hypothesis("é 7", 0.0, -1e-3),)),
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


def _held(nbest: NBest, entry: Format) -> NBest:
    """The list without what files of the format cannot hold."""
    empty = {key: None for key in ("ref", "audio_s") if key not in entry.holds}
    without = {key: None for key in ("acoustic", "lm", "tokens") if key not in entry.holds}
    return replace(nbest, **empty, hyps=tuple(replace(hyp, **without) for hyp in nbest.hyps))


BOTH_SCORES = {"srilm-nbest"}  # formats that have no way to leave a score out
WRITABLE = [name for name, entry in FORMATS.items() if entry.write is not None]


def _rounded(nbests: Iterable[Any], name: str) -> list[NBest]:
    """As they are; for logs of another base without the last digits, which change with it."""
    if name != "srilm-nbest":
        return list(nbests)
    return [
        replace(
            nbest,
            hyps=tuple(
                replace(hyp, acoustic=float(f"{hyp.acoustic:.14g}"), lm=float(f"{hyp.lm:.14g}"))
                for hyp in nbest.hyps
            ),
        )
        for nbest in nbests
    ]


WRITABLE_NBEST = [name for name in WRITABLE if FORMATS[name].kind == "nbest"]


@pytest.mark.parametrize("name", WRITABLE_NBEST)
def test_nbest_write_then_read_is_the_identity(tmp_path: Path, name: str) -> None:
    entry = FORMATS[name]
    assert entry.write is not None
    held = [_held(nbest, entry) for nbest in (WITH_LM if name in BOTH_SCORES else NBESTS)]
    path = str(tmp_path / f"out.{entry.extensions[0]}")
    entry.write(path, held)
    assert _rounded(read_items(name, path, {}), name) == _rounded(held, name)
    with pytest.raises(ValueError, match="comes twice"):
        entry.write(path, [*held, held[0]])
    assert _rounded(read_items(name, path, {}), name) == _rounded(held, name)


@pytest.mark.parametrize("name", [n for n in WRITABLE_NBEST if "lm" in FORMATS[n].holds])
def test_both_scores_come_back(tmp_path: Path, name: str) -> None:
    entry = FORMATS[name]
    assert entry.write is not None
    path = str(tmp_path / f"out.{entry.extensions[0]}")
    entry.write(path, WITH_LM)
    assert _rounded(read_items(name, path, {}), name) == _rounded(WITH_LM, name)


@pytest.mark.parametrize("name", [n for n in WRITABLE if FORMATS[n].kind == "lattice"])
def test_lattice_write_then_read_keeps_words_and_scores(tmp_path: Path, name: str) -> None:
    entry = FORMATS[name]
    assert entry.write is not None
    path = str(tmp_path / f"out.{entry.extensions[0]}")
    entry.write(path, LATTICES)
    again = list(read_items(name, path, {}))
    assert len(again) == len(LATTICES)
    for old, new in zip(LATTICES, again):
        assert isinstance(new, Lattice)
        assert lattice_nbest(new, 9, ScoreWeights()) == lattice_nbest(old, 9, ScoreWeights())
    with pytest.raises(ValueError, match="comes twice"):
        entry.write(path, [*LATTICES, LATTICES[0]])
    with pytest.raises(ValueError, match="cycle"):
        entry.write(str(tmp_path / "cyclic"), [CYCLIC])


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00", b"{}", b"one two three\n", b"[1]", b"[" * 100_000, b"1" * 5000, b"\n\n"],
)
def test_hostile_files_raise_one_input_error(tmp_path: Path, name: str, content: bytes) -> None:
    entry = FORMATS[name]
    path = tmp_path / f"x.{entry.extensions[0]}"
    path.write_bytes(content)
    options = _options(tmp_path, entry.needs)
    with pytest.raises(InputError):
        list(read_items(name, str(path), options))
    with pytest.raises(InputError):
        list(read_items(name, str(tmp_path / "missing"), options))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        list(read_items(name, str(tmp_path / "empty"), options))


def _options(folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """A value for every option that a reader needs."""
    if names == ("lm_base",):
        return {"lm_base": 10.0}
    contents = {"manifest": '{"audio_filepath": "a/s-1.wav", "duration": 1.5, "text": "a c"}\n'}
    for name in names:
        (folder / name).write_text(contents[name], encoding="utf-8")
    return {name: str(folder / name) for name in names}


def test_undeclared_and_missing_options_are_wrong_calls(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--words has no use for format slf"):
        read_items("slf", str(tmp_path), {"words": "x"})
    for name, entry in FORMATS.items():
        assert {*entry.read_options, *entry.write_options} <= set(OPTIONS)
        assert set(entry.needs) <= set(entry.read_options)
        if entry.needs:
            with pytest.raises(ValueError, match=f"format {name} needs --"):
                read_items(name, str(tmp_path), {})


def test_pocketsphinx_lattice_by_hand(tmp_path: Path) -> None:
    (tmp_path / "u.lat").write_text(LAT, encoding="utf-8")
    (lattice,) = FORMATS["pocketsphinx-lat"].read(str(tmp_path / "u.lat"))
    assert isinstance(lattice, Lattice)
    nbest = lattice_nbest(lattice, 5, ScoreWeights(1.0, 0.0))
    assert nbest.utt == "u"
    assert [hyp.text for hyp in nbest.hyps] == ["", "to"]
    # ln 1.0001 is 9.9995e-5
    assert [hyp.acoustic for hyp in nbest.hyps] == pytest.approx([-2.99985, -3.9998], abs=1e-5)
    for old, new, found in (
        ("End\n", "", "before 'End'"),
        ("Nodes 4", "Nodes 5", "4 nodes of 5 stated"),
        ("3 1 -10000", "9223372036854775808 1 -10000", "is not a whole number"),
        ("-10000\nEnd", "-10000 1\nEnd", "4 columns"),
        ("1.000100e+00", "1.0", "log base 1.0"),
        ("Initial 3", "Initial 3\nInitial 1", "Initial again"),
        ("Initial 3\nFinal 0", "Initial 0\nFinal 3", "no path from the initial"),
        ("NODEID ASCORE)", "NODEID ASCORE LSCORE)", "columns FROM-NODEID TO-NODEID ASCORE LSCORE"),
        ("(NODEID WORD", "(WORD", "known: NODEID WORD STARTFRAME"),
    ):
        assert old in LAT
        (tmp_path / "u.lat").write_text(LAT.replace(old, new), encoding="utf-8")
        with pytest.raises(InputError, match=found):
            list(FORMATS["pocketsphinx-lat"].read(str(tmp_path / "u.lat")))


def test_the_columns_of_a_pocketsphinx_lattice_are_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "u.lat").write_text(LAT, encoding="utf-8")
    (plain,) = read_items("pocketsphinx-lat", str(tmp_path / "u.lat"), {})
    head, _, edges = LAT.partition("Edges (FROM-NODEID TO-NODEID ASCORE)\n")
    turned = [line.split() for line in edges.splitlines()]
    turned = [[*reversed(line)] for line in turned]
    text = head + "Edges (ascore to-nodeid from-nodeid)\n"
    text += "".join(f"{' '.join(line)}\n" for line in turned)
    (tmp_path / "u.lat").write_text(text, encoding="utf-8")
    (lattice,) = read_items("pocketsphinx-lat", str(tmp_path / "u.lat"), {})
    assert isinstance(lattice, Lattice)
    assert isinstance(plain, Lattice)
    assert lattice_nbest(lattice, 9, ScoreWeights(1, 0)) == lattice_nbest(
        plain, 9, ScoreWeights(1, 0)
    )


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
