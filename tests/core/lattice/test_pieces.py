"""Lattices over word pieces become lattices over words with the same paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from asrprune.core.lattice.lattice import Lattice, from_arcs
from asrprune.core.lattice.paths import k_best
from asrprune.core.lattice.pieces import words_of_pieces
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.firstpass.formats.kaldi_lat import read_kaldi_lats
from asrprune.firstpass.reading.symbols import read_symbols

ARCS = [
    (0, 1, "\u2581th", -1.0, -0.125),
    (1, 2, "e", -2.0, -0.25),
    (0, 2, "\u2581a", -2.5, -0.5),
    (2, 3, "", -0.5, 0.0),
    (3, 4, "\u2581ca", -1.0, -0.25),
    (4, 5, "t", -1.0, -0.5),
    (4, 5, "ts", -3.0, -0.75),
    (3, 5, "<unk>", -9.0, -1.0),
    (5, 6, "", -0.25, 0.0),
    (5, 6, "\u2581down", -7.0, -0.25),
]
TOKENS = "<blk> 0\n<sos/eos> 1\n<unk> 2\n\u2581ca 3\nt 4\n\u2581the 5\n"


def _paths(lattice: Lattice) -> dict[str, tuple[float | None, float | None]]:
    return {hyp.text: (hyp.acoustic, hyp.lm) for hyp in k_best(lattice, 99, ScoreWeights())}


def test_the_paths_are_the_same_in_words() -> None:
    lattice = from_arcs("u", 7, 0, 6, ARCS)
    joined = {
        text.replace(" <", " \u2581<").replace(" ", "").replace("\u2581", " ").strip(): scores
        for text, scores in _paths(lattice).items()
    }
    found = _paths(words_of_pieces(lattice))
    assert found == joined
    assert len(found) == 12
    assert found["the cats down"] == (-14.5, -1.625)
    assert "a <unk>" in found
    bare = from_arcs("u", 7, 0, 6, [(*arc[:4], None) for arc in ARCS])
    assert words_of_pieces(bare).lm is None
    nothing = from_arcs("u", 2, 0, 1, [(0, 1, "", -1.0, None)])
    assert [hyp.text for hyp in k_best(words_of_pieces(nothing), 2, ScoreWeights(1, 0))] == [""]


def test_more_arcs_than_a_lattice_may_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pieces inside a word in each of n slots: 2 ** n ways, whether the word ends or not."""

    def slots(n: int, *more: str) -> Lattice:
        pieces = [(slot, slot + 1, piece) for slot in range(n) for piece in "ab"]
        pieces += [(n + at, n + at + 1, piece) for at, piece in enumerate(more)]
        return from_arcs("u", n + len(more) + 1, 0, n + len(more), [(*p, 0.0, 0.0) for p in pieces])

    monkeypatch.setattr("asrprune.core.lattice.pieces._MOST_ARCS", 64)
    assert words_of_pieces(slots(6)).n_arcs == 64
    assert words_of_pieces(slots(5, "\u2581c")).n_arcs == 33
    for lattice in (slots(7), slots(6, "\u2581c"), slots(40)):
        with pytest.raises(ValueError, match="lattice u: more than 64 words on arcs"):
            words_of_pieces(lattice)


def test_a_tokens_txt_is_a_table_of_pieces(tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_text(TOKENS, encoding="utf-8")
    table = read_symbols(tmp_path / "tokens.txt")
    assert table.of_pieces
    assert [table.word(number) for number in range(6)] == [
        "",
        "",
        "<unk>",
        "\u2581ca",
        "t",
        "\u2581the",
    ]
    (tmp_path / "x.ark").write_text("u \n0 1 5 1,2,\n1 2 3 1,1,\n2 3 4 1,1,\n2 3 0 3,3,\n3\n\n")
    (lattice,) = read_kaldi_lats(tmp_path / "x.ark", tmp_path / "tokens.txt")
    assert _paths(lattice) == {"the cat": (-4.0, -3.0), "the ca": (-6.0, -5.0)}
    (tmp_path / "tokens.txt").write_text("a 0\n")
    with pytest.raises(InputError, match="a 0; expected <eps> for id 0, or <blk>"):
        read_symbols(tmp_path / "tokens.txt")
