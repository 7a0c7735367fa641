"""Kaldi lattices: text and binary give the same paths, costs become logs, ids need a table."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from asrprune.core.lattice.lattice import Lattice, from_arcs
from asrprune.core.lattice.paths import k_best
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.firstpass.formats.kaldi_fst import MAGIC, WordFst, format_binary
from asrprune.firstpass.formats.kaldi_lat import (
    read_kaldi_lats,
    write_kaldi_binary_lats,
    write_kaldi_lats,
)
from asrprune.firstpass.formats.slf import read_slf_files, write_slf_files
from asrprune.firstpass.on_bad import OnBad

COMPACT = """\
utt-1 \n\
0\t1\t5\t4.5,13.5,2_4_4
0\t2\t7\t3.75,14.25,2_6
1\t3\t9\t1.5,8.25,8_8
2\t3\t9\t1.75,8.5,
3\t0.75,2.5,10

utt-2 \n\
1\t0\t0
0

"""
# the same first lattice with one arc a word, as int2sym.pl leaves it: spaces, no blank at the end
PLAIN = """\
utt-1
0 1 2 five 4.5,13.5
0 2 2 seven 3.75,14.25
1 3 8 nine 1.5,8.25
2 3 8 nine 1.75,8.5
3 0.75,2.5

"""
WORDS = "<eps> 0\nfive 5\nseven 7\nnine 9\n"
# what kaldifst 1.8.3 wrote for the lattice of PLAIN with a few other costs
OPENFST = (
    b"\xd6\xfd\xb2~\x06\x00\x00\x00vector\x08\x00\x00\x00lattice4\x02\x00\x00\x00\x00\x00\x00\x00"
    b"\x03\x00\x82ii\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00"
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f\x00\x00\x80\x7f\x02\x00\x00\x00\x00\x00\x00"
    b"\x00\x02\x00\x00\x00\x05\x00\x00\x00ff\x86@\x00\x00XA\x01\x00\x00\x00\x00\x00\x00\x00\x07\x00"
    b"\x00\x00\x9a\x99y@\x9a\x99aA\x02\x00\x00\x00\x00\x00\x80\x7f\x00\x00\x80\x7f\x01\x00\x00\x00"
    b"\x00\x00\x00\x00\x08\x00\x00\x00\t\x00\x00\x00\x00\x00\xc0?\x00\x00\x04A\x03\x00\x00\x00\x00"
    b"\x00\x80\x7f\x00\x00\x80\x7f\x01\x00\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00\t\x00\x00\x00"
    b"\x9a\x99\xd9?\x00\x00\x08A\x03\x00\x00\x00333?\x00\x00 @\x00\x00\x00\x00\x00\x00\x00\x00"
)
# what Kaldi's own WriteCompactLattice wrote for "utt-1" of COMPACT
KALDI = (
    b"utt-1 \xd6\xfd\xb2~\x06\x00\x00\x00vector\x10\x00\x00\x00compactlattice44\x02\x00\x00\x00"
    b"\x00\x00\x00\x00\x03\x00\x81Zi\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00"
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f\x00\x00\x80\x7f\x00\x00"
    b"\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x05\x00\x00\x00\x00\x00\x90@\x00"
    b"\x00XA\x03\x00\x00\x00\x02\x00\x00\x00\x04\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00\x07"
    b"\x00\x00\x00\x07\x00\x00\x00\x00\x00p@\x00\x00dA\x02\x00\x00\x00\x02\x00\x00\x00\x06\x00\x00"
    b"\x00\x02\x00\x00\x00\x00\x00\x80\x7f\x00\x00\x80\x7f\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00"
    b"\x00\x00\t\x00\x00\x00\t\x00\x00\x00\x00\x00\xc0?\x00\x00\x04A\x02\x00\x00\x00\x08\x00\x00"
    b"\x00\x08\x00\x00\x00\x03\x00\x00\x00\x00\x00\x80\x7f\x00\x00\x80\x7f\x00\x00\x00\x00\x01\x00"
    b"\x00\x00\x00\x00\x00\x00\t\x00\x00\x00\t\x00\x00\x00\x00\x00\xe0?\x00\x00\x08A\x00\x00\x00"
    b"\x00\x03\x00\x00\x00\x00\x00@?\x00\x00 @\x01\x00\x00\x00\n\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x00\x00\x00"
)
PATHS = [("seven nine", -25.25, -6.25), ("five nine", -24.25, -6.75)]


def _paths(lattice: Lattice) -> list[tuple[str, float, float]]:
    weights = ScoreWeights(0.5, 1.0)
    return [(h.text, h.acoustic or 0.0, h.lm or 0.0) for h in k_best(lattice, 9, weights)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "table").write_text(WORDS, encoding="utf-8")
    return tmp_path / "table"


def test_compact_text(tmp_path: Path, table: Path) -> None:
    (tmp_path / "x.ark").write_text(COMPACT, encoding="utf-8")
    first, second = read_kaldi_lats(tmp_path / "x.ark", words=table)
    assert (first.utt, second.utt) == ("utt-1", "utt-2")
    assert sorted(_paths(first)) == sorted(PATHS)
    assert (second.n_states, second.start, second.final, _paths(second)) == (2, 1, 0, [("", 0, 0)])
    with pytest.raises(InputError, match=r"utt-1: word id 5 without a table: pass --words"):
        list(read_kaldi_lats(tmp_path / "x.ark"))


def test_plain_text_with_symbols_and_binary(tmp_path: Path, table: Path) -> None:
    (tmp_path / "x.txt").write_text(PLAIN, encoding="utf-8")
    (lattice,) = read_kaldi_lats(tmp_path / "x.txt")
    assert sorted(_paths(lattice)) == sorted(PATHS)
    (tmp_path / "x.ark").write_bytes(b"a " + OPENFST + b"b " + OPENFST)
    lattices = list(read_kaldi_lats(tmp_path / "x.ark", words=table))
    assert [lattice.utt for lattice in lattices] == ["a", "b"]
    for lattice in lattices:
        found = {text: scores for text, *scores in _paths(lattice)}
        assert found["seven nine"] == pytest.approx([-25.1, -6.3], abs=1e-6)
        assert found["five nine"] == pytest.approx([-24.25, -6.4], abs=1e-6)


def test_our_bytes_are_those_of_openfst() -> None:
    arcs = [
        (0, 1, 5, -4.2, -13.5),
        (0, 2, 7, -3.9, -14.1),
        (1, 3, 9, -1.5, -8.25),
        (2, 3, 9, -1.7, -8.5),
    ]
    ours = format_binary(WordFst(0, 4, list(arcs), {3: (-0.7, -2.5)}), compact=False)
    zeros = bytearray(OPENFST)
    zeros[34:42] = struct.pack("<Q", 3)  # property bits beside expanded and mutable
    for at in (ours.find(struct.pack("<ii", 0, label)) for label in (5, 7, 9)):
        assert at > 0  # our transition ids are 0
    theirs = bytes(zeros).replace(struct.pack("<ii", 2, 5), struct.pack("<ii", 0, 5))
    assert ours == theirs.replace(struct.pack("<ii", 8, 9), struct.pack("<ii", 0, 9))


def test_bytes_of_kaldi_are_the_lattice_of_its_text(tmp_path: Path, table: Path) -> None:
    (tmp_path / "x.ark").write_bytes(KALDI)
    (tmp_path / "x.txt").write_text(COMPACT, encoding="utf-8")
    (binary,) = read_kaldi_lats(tmp_path / "x.ark", words=table)
    text = next(read_kaldi_lats(tmp_path / "x.txt", words=table))
    assert binary.acoustic.tolist() == text.acoustic.tolist()
    assert sorted(_paths(binary)) == sorted(PATHS)


def test_a_lattice_of_one_state_is_the_empty_path(tmp_path: Path) -> None:
    (tmp_path / "x.ark").write_text("a \n0\n\nb \n0 1,2,\n\n", encoding="utf-8")
    found = [_paths(lattice) for lattice in read_kaldi_lats(tmp_path / "x.ark")]
    assert found == [[("", 0.0, 0.0)], [("", -2.0, -1.0)]]


def test_a_byte_order_mark_is_no_part_of_an_id(tmp_path: Path, table: Path) -> None:
    (tmp_path / "x.ark").write_text(COMPACT, encoding="utf-8-sig")
    found = [lattice.utt for lattice in read_kaldi_lats(tmp_path / "x.ark", words=table)]
    assert found == ["utt-1", "utt-2"]
    (tmp_path / "x.ark").write_text("\ufeff", encoding="utf-8")
    with pytest.raises(InputError, match="no lattice"):
        list(read_kaldi_lats(tmp_path / "x.ark", words=table))


@pytest.mark.parametrize("kind", [b"compactlattice44", b"lattice4"])
def test_an_empty_lattice_in_binary_meets_the_policy(
    tmp_path: Path, table: Path, kind: bytes
) -> None:
    names = b"".join(struct.pack("<i", len(name)) + name for name in (b"vector", kind))
    empty = MAGIC + names + struct.pack("<iiQqqq", 2, 0, 3, -1, 0, 0)
    (tmp_path / "x.ark").write_bytes(b"u1 " + empty + b"b " + OPENFST)
    with pytest.raises(InputError, match=r"utterance u1: a lattice without states; .*--on-bad"):
        list(read_kaldi_lats(tmp_path / "x.ark", words=table))
    first, second = read_kaldi_lats(tmp_path / "x.ark", table, OnBad("first-pass"))
    assert (first.utt, _paths(first)) == ("u1", [("", 0.0, 0.0)])
    assert (second.utt, len(_paths(second))) == ("b", 2)
    (tmp_path / "x.ark").write_bytes(b"u1 " + empty.replace(b"\xff", b"\0"))
    with pytest.raises(InputError, match="start state 0 of 0 states"):
        list(read_kaldi_lats(tmp_path / "x.ark", table, OnBad("skip")))


def test_scp_points_into_archives(tmp_path: Path, table: Path) -> None:
    (tmp_path / "x.ark").write_bytes(b"a " + OPENFST + b"b " + OPENFST)
    (tmp_path / "y.ark").write_text(PLAIN.replace("utt-1\n", "c \n"), encoding="utf-8")
    at = 2 + len(OPENFST) + 2
    lines = [f"b {tmp_path}/x.ark:{at}", f"a {tmp_path}/x.ark:2"]
    (tmp_path / "x.scp").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = list(read_kaldi_lats(tmp_path / "x.scp", words=table))
    assert [lattice.utt for lattice in found] == ["b", "a"]
    assert [_paths(lattice) for lattice in found] == [_paths(found[0])] * 2
    for line in (
        "a lattice-copy ark:x ark:- |",
        "a",
        f"a {tmp_path}/x.ark:9",
        "a /no/file:2",
        "a x\0",
        "a " + 300 * "x",
    ):
        (tmp_path / "x.scp").write_text(line + "\n", encoding="utf-8")
        with pytest.raises(InputError):
            list(read_kaldi_lats(tmp_path / "x.scp", words=table))


def test_a_decode_folder(tmp_path: Path, table: Path) -> None:
    folder = tmp_path / "decode"
    folder.mkdir()
    for job in (1, 2, 10):
        packed = gzip.compress(PLAIN.replace("utt-1", f"utt-{job}").encode())
        (folder / f"lat.{job}.gz").write_bytes(packed)
    (folder / "num_jobs").write_text("3\n")
    assert [lattice.utt for lattice in read_kaldi_lats(folder)] == ["utt-1", "utt-2", "utt-10"]
    (folder / "num_jobs").write_text("4\n")
    with pytest.raises(InputError, match="num_jobs says '4' and there are 3 files"):
        list(read_kaldi_lats(folder))
    (folder / "num_jobs").write_text("3\n")
    (folder / "lat.2.gz").write_bytes(gzip.compress(PLAIN.encode())[:40])
    with pytest.raises(InputError, match="damaged compressed data"):
        list(read_kaldi_lats(folder))
    with pytest.raises(ValueError, match="holds decode"):
        write_kaldi_lats(tmp_path, [])


@pytest.mark.parametrize("write", [write_kaldi_lats, write_kaldi_binary_lats])
def test_a_folder_keeps_the_jobs_of_another(tmp_path: Path, table: Path, write: object) -> None:
    decode = tmp_path / "decode"
    decode.mkdir()
    jobs = {1: ["utt-3", "utt-1"], 2: ["utt-9"], 3: ["utt-2"]}
    for job, utts in jobs.items():
        text = "".join(PLAIN.replace("utt-1", utt) for utt in utts)
        (decode / f"lat.{job}.gz").write_bytes(gzip.compress(text.encode()))
    (decode / "num_jobs").write_text("3\n")
    lattices = list(read_kaldi_lats(decode))
    assert callable(write)
    for order in (lattices, lattices[::-1]):
        write(tmp_path / "out", order, words=table, like=decode)
        assert (tmp_path / "out" / "num_jobs").read_text() == "3\n"
        for job, utts in jobs.items():
            again = list(read_kaldi_lats(tmp_path / "out" / f"lat.{job}.gz", words=table))
            assert sorted(one.utt for one in again) == sorted(utts)
            assert [_paths(one) for one in again] == [_paths(lattices[0])] * len(utts)
    other = from_arcs("u", 2, 0, 1, [(0, 1, "five", 0.0, 0.0)])
    with pytest.raises(ValueError, match=r"1 utterances of .*decode are missing: utt-2"):
        write(tmp_path / "no", lattices[:3], words=table, like=decode)
    with pytest.raises(ValueError, match=r"utterance u is not in .*decode"):
        write(tmp_path / "no", [*lattices, other], words=table, like=decode)
    with pytest.raises(ValueError, match="expected a folder to write"):
        write(tmp_path / "no.ark", lattices, words=table, like=decode)
    assert not (tmp_path / "no").exists()
    write(decode, read_kaldi_lats(decode), words=table, like=decode)  # in its own place
    assert [one.utt for one in read_kaldi_lats(decode, words=table)] == [
        "utt-3",
        "utt-1",
        "utt-9",
        "utt-2",
    ]


@pytest.mark.parametrize("write", [write_kaldi_lats, write_kaldi_binary_lats])
def test_one_lattice_in_three_formats_has_the_same_totals(
    tmp_path: Path, table: Path, write: object
) -> None:
    (tmp_path / "x.txt").write_text(PLAIN, encoding="utf-8")
    (lattice,) = read_kaldi_lats(tmp_path / "x.txt")
    write_slf_files(tmp_path / "slf", [lattice])
    (from_slf,) = read_slf_files(tmp_path / "slf")
    assert callable(write)
    write(tmp_path / "own", [from_slf])
    write(tmp_path / "x.ark", [from_slf], words=table)
    (from_own,) = read_kaldi_lats(tmp_path / "own")
    (from_ark,) = read_kaldi_lats(tmp_path / "x.ark", words=table)
    assert _paths(from_slf) == _paths(from_own) == _paths(from_ark) == _paths(lattice)
    write(tmp_path / "again", [from_own])
    assert gzip.decompress((tmp_path / "again" / "lat.1.gz").read_bytes()) == gzip.decompress(
        (tmp_path / "own" / "lat.1.gz").read_bytes()
    )


def test_what_cannot_be_written(tmp_path: Path, table: Path) -> None:
    def one(word: str, lm: float | None = 0.0) -> list[Lattice]:
        return [from_arcs("u", 2, 0, 1, [(0, 1, word, -1.0, lm)])]

    with pytest.raises(ValueError, match="would be read as an id"):
        write_kaldi_lats(tmp_path / "x.ark", one("7"))
    write_kaldi_lats(tmp_path / "own", one("7"))
    assert next(read_kaldi_lats(tmp_path / "own")).words == ("", "7")
    with pytest.raises(ValueError, match="has no LM scores"):
        write_kaldi_lats(tmp_path / "x.ark", one("a", None))
    with pytest.raises(ValueError, match="'six' has no id"):
        write_kaldi_lats(tmp_path / "x.ark", one("six"), words=table)
    with pytest.raises(ValueError, match="pass --words"):
        write_kaldi_binary_lats(tmp_path / "x.ark", one("five"))
    with pytest.raises(ValueError, match="'</s>' cannot be a word"):
        write_kaldi_lats(tmp_path / "x.ark", one("</s>"))
    with pytest.raises(ValueError, match="cannot hold"):
        write_kaldi_binary_lats(tmp_path / "x.ark", one("five", -1e300), words=table)
    with pytest.raises(ValueError, match="start state 0 has no arc"):
        write_kaldi_lats(tmp_path / "x.ark", [from_arcs("u", 2, 0, 1, [])])


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("\n\nutt-2", "\nutt-2", "'utt-2'"),
        ("\n0\n\n", "\n0\n", "an end before the blank line"),
        ("13.5,2", "13.5;2", "is not a cost"),
        ("13.5,2_4_4", "13.5", "no line of a lattice"),
        ("4.5,", "NaN,", "'NaN' is not a cost"),
        ("4.5,", "BadNumber,", "'BadNumber' is not a cost"),
        ("4.5,", "-Infinity,", "'-Infinity' is not a cost"),
        ("4.5,", "1_0,", "'1_0' is not a cost"),
        ("1\t3\t9", "1\t0\t9", "on a cycle"),
        ("1\t3\t9", "1\tx\t9", "state 'x' is not a whole number"),
        ("1\t3\t9", "1\t3\tnine", "word id 'nine'"),
        ("1\t3\t9", "1\t3\t8", "word id 8 is not in"),
        ("1\t3\t9", "1\t3\t9\t9", "no line of a lattice"),
        ("3\t0.75,2.5,10\n", "", "without a final state"),
        ("3\t0.75,2.5,10\n", "3\n3\n", "final twice"),
        ("3\t0.75,2.5,10", "3\t0.75,2.5", "mixes Lattice and CompactLattice"),
        ("utt-2", "utt-1", "utterance utt-1 again"),
        ("utt-2 \n1\t0\t0\n0\n", "utt-2 \n", "without states"),
        ("utt-2 ", "utt-2 x", "after the key"),
        ("utt-2", " utt-2", "where a key should be"),
    ],
)
def test_bad_text_is_named(tmp_path: Path, table: Path, old: str, new: str, found: str) -> None:
    assert old in COMPACT
    (tmp_path / "x.ark").write_text(COMPACT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        list(read_kaldi_lats(tmp_path / "x.ark", words=table))
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("at", "new", "found"),
    [
        (8, b"const!", "'const!'"),
        (18, b"lattice8", "'lattice8'"),
        (26, b"\x03", "version 3"),
        (30, b"\x01", "symbol table"),
        (42, b"\x07", "start state 7"),
        (50, b"\xff", "an end inside"),
        (66, b"\xff", "cost nan"),
        (81, b"\xff", "arcs at state 0"),
    ],
)
def test_bad_binary_is_named(tmp_path: Path, table: Path, at: int, new: bytes, found: str) -> None:
    data = OPENFST[:at] + new + OPENFST[at + len(new) :]
    for content in (data, OPENFST[: len(OPENFST) - 3], MAGIC[:3], b"\0B", b""):
        (tmp_path / "x.ark").write_bytes(b"a " + content)
        with pytest.raises(InputError, match="utterance a: ") as caught:
            list(read_kaldi_lats(tmp_path / "x.ark", words=table))
        assert content is not data or found in str(caught.value)
