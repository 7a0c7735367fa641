"""k2 lattices as saved: Fsa and FsaVec, scores split, nothing unpickled but tensors."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from asrprune.core.lattice.lattice import Lattice, from_arcs
from asrprune.core.lattice.paths import k_best
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.firstpass.formats.k2_lattice import read_k2_lattices, write_k2_lattices

torch = pytest.importorskip("torch")


def _bits(score: float) -> int:
    (value,) = struct.unpack("<i", struct.pack("<f", score))
    return int(value)


# two ways to "a b" or "b", then the arc into the final state that k2 wants
ARCS = [
    [0, 1, 101, _bits(-3.0)],
    [0, 2, 102, _bits(-6.5)],
    [1, 2, 102, _bits(-1.5)],
    [2, 3, -1, _bits(-0.5)],
]
AUX = [1, 2, 2, -1]
LM = [-1.0, -4.0, -0.5, 0.0]
VECTOR = [2, 0, 0, 4, 6, 0, 4, 5, *(number for arc in ARCS for number in arc)]
VECTOR += [0, 1, -1, _bits(-7.0)]
WORDS = "<eps> 0\na 1\nb 2\n"


def _save(path: Path, **changes: Any) -> Path:
    record = {
        "arcs": torch.tensor(ARCS, dtype=torch.int32),
        "aux_labels": torch.tensor(AUX, dtype=torch.int32),
        "lm_scores": torch.tensor(LM),
        **changes,
    }
    torch.save({key: value for key, value in record.items() if value is not None}, path)
    return path


def _vector(path: Path, **changes: Any) -> Path:
    record = {
        "arcs": torch.tensor(VECTOR, dtype=torch.int32),
        "aux_labels": torch.tensor([*AUX, -1], dtype=torch.int32),
        "lm_scores": torch.tensor([*LM, -2.0]),
    }
    return _save(path, **{**record, **changes})


def _paths(lattice: Lattice) -> list[tuple[str, Any, Any]]:
    weights = ScoreWeights(first_lm=0.0 if lattice.lm is None else 1.0)
    return [(hyp.text, hyp.acoustic, hyp.lm) for hyp in k_best(lattice, 9, weights)]


@pytest.fixture
def words(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text(WORDS, encoding="utf-8")
    return tmp_path / "words.txt"


def test_fsa(tmp_path: Path, words: Path) -> None:
    (lattice,) = read_k2_lattices(_save(tmp_path / "u-1.pt"), words=words)
    assert lattice.utt == "u-1"
    assert _paths(lattice) == [("a b", -3.5, -1.5), ("b", -3.0, -4.0)]
    (lattice,) = read_k2_lattices(_save(tmp_path / "u-1.pt", lm_scores=None), words=words)
    assert _paths(lattice) == [("a b", -5.0, None), ("b", -7.0, None)]
    with pytest.raises(InputError, match=r"word id 101 is not in"):
        list(read_k2_lattices(_save(tmp_path / "u-1.pt", aux_labels=None), words=words))
    with pytest.raises(InputError, match="without a table: pass --words"):
        list(read_k2_lattices(_save(tmp_path / "u-1.pt")))


def test_fsa_vec(tmp_path: Path, words: Path) -> None:
    path = _vector(tmp_path / "x.pt")
    with pytest.raises(InputError, match="without ids: pass --utts"):
        list(read_k2_lattices(path, words=words))
    (tmp_path / "utts").write_text("u-1\nu-2\n", encoding="utf-8")
    first, second = read_k2_lattices(path, words=words, utts=tmp_path / "utts")
    assert _paths(first) == [("a b", -3.5, -1.5), ("b", -3.0, -4.0)]
    assert (second.utt, _paths(second)) == ("u-2", [("", -5.0, -2.0)])
    (tmp_path / "utts").write_text("u-1\n", encoding="utf-8")
    with pytest.raises(InputError, match="1 utterance ids for 2 lattices"):
        list(read_k2_lattices(path, words=words, utts=tmp_path / "utts"))


@pytest.mark.parametrize("name", ["out.pt", "folder"])
def test_round_trip_and_k2s_rules(tmp_path: Path, words: Path, name: str) -> None:
    (lattice,) = read_k2_lattices(_save(tmp_path / "u-1.pt"), words=words)
    word_at_end = from_arcs("u-2", 2, 1, 0, [(1, 0, "7", -1.0, -2.0), (1, 0, "", -9.0, 0.0)])
    write_k2_lattices(tmp_path / name, [lattice, word_at_end])
    again = list(read_k2_lattices(tmp_path / name))
    assert [item.utt for item in again] == ["u-1", "u-2"]
    assert [_paths(item) for item in again] == [_paths(lattice), _paths(word_at_end)]
    assert again[0].n_states == 4
    assert again[1].n_states == 3
    for item in again:
        assert (item.start, item.final) == (0, item.n_states - 1)
        assert item.src.tolist() == sorted(item.src.tolist())


def test_what_cannot_be_written(tmp_path: Path) -> None:
    def one(acoustic: float, lm: float | None) -> Lattice:
        return from_arcs("u", 2, 0, 1, [(0, 1, "a", acoustic, lm)])

    for lattices, found in (
        ([one(-1e300, 0.0)], "cannot hold"),
        ([one(0.0, float("-inf"))], "cannot hold"),
        ([one(0.0, 0.0), one(0.0, 0.0)], "comes twice"),
        ([from_arcs("u", 2, 0, 1, [])], "has no path"),
        ([], "no lattice"),
        ([one(0.0, 0.0), from_arcs("v", 2, 0, 1, [(0, 1, "a", 0.0, None)])], "only some"),
    ):
        with pytest.raises(ValueError, match=found):
            write_k2_lattices(tmp_path / "x.pt", lattices)
    assert not (tmp_path / "x.pt").exists()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"arcs": None}, "without 'arcs'"),
        ({"arcs": [1, 2]}, "not a tensor"),
        ({"arcs": torch.zeros(2, 3, dtype=torch.int32)}, "arcs of shape"),
        ({"arcs": torch.zeros(4, 4)}, "of type float32"),
        ({"arcs": torch.zeros(4, 4, dtype=torch.int32)}, "0 states entered by label -1"),
        ({"arcs": torch.tensor([9, 0, 0], dtype=torch.int32)}, "no FsaVec"),
        ({"arcs": torch.tensor([], dtype=torch.int32)}, "no FsaVec"),
        ({"aux_labels": torch.zeros(3, dtype=torch.int32)}, "aux_labels of shape"),
        ({"aux_labels": torch.full((4,), -1, dtype=torch.int32)}, "out of range"),
        ({"aux_labels": torch.tensor([1, 2, 2, -2], dtype=torch.int32)}, "out of range"),
        ({"lm_scores": torch.tensor([0, 0, 0, float("nan")])}, "not finite"),
        ({"utts": "u"}, "not a list of strings"),
        ({"utts": ["a b"]}, "white space"),
        ({"word_table": ["", "x y", "z"]}, None),
        ({"arcs": torch.tensor([[0, 0, 1, 0], *ARCS[1:]], dtype=torch.int32)}, "on a cycle"),
        ({"arcs": torch.tensor([[0, 9, 1, 0], *ARCS[1:]], dtype=torch.int32)}, "out of range"),
        ({"arcs": torch.tensor([[-1, 1, 1, 0], *ARCS[1:]], dtype=torch.int32)}, "outside 0.."),
    ],
)
def test_other_contents_are_named(
    tmp_path: Path, words: Path, changes: dict[str, Any], found: str | None
) -> None:
    path = _save(tmp_path / "u.pt", **changes)
    if found is None:  # the table that is passed goes first
        assert len(list(read_k2_lattices(path, words=words))) == 1
        return
    with pytest.raises(InputError) as caught:
        list(read_k2_lattices(path, words=words))
    assert found in str(caught.value)


def test_python_objects_are_not_unpickled(tmp_path: Path) -> None:
    torch.save({"arcs": Path("x")}, tmp_path / "u.pt")
    with pytest.raises(InputError, match="not loadable as plain tensors"):
        list(read_k2_lattices(tmp_path / "u.pt"))
