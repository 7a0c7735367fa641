"""Kaldi's n-best archives: costs become logs, keys are split at the last hyphen."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.errors import InputError
from asrprune.firstpass.formats.kaldi_nbest import read_kaldi_nbest, write_kaldi_nbest

WORDS = "<eps> 0\n<s> 9\nA 1\n7 2\nZEBRA 3\n"
IDS = "12-34-0000-1 1 2\n12-34-0000-2 9 3 0\n12-34-0001-1\n"
ACWT = "12-34-0000-1 43.25\n12-34-0000-2 44.5\n12-34-0001-1 inf\n"
LMWT = "12-34-0000-1 -1.5\n12-34-0000-2 0\n12-34-0001-1 2e0\n"
LISTS = [
    NBest("12-34-0000", (Hypothesis("A 7", -43.25, 1.5), Hypothesis("ZEBRA", -44.5, 0.0))),
    NBest("12-34-0001", (Hypothesis("", float("-inf"), -2.0),)),
]


def _folder(path: Path, **changes: str) -> Path:
    path.mkdir()
    files = {"words": IDS, "acwt": ACWT, "lmwt": LMWT, "words.txt": WORDS, **changes}
    for name, text in files.items():
        if text:
            (path / name).write_text(text, encoding="utf-8")
    return path


def test_ids_costs_and_keys(tmp_path: Path) -> None:
    assert list(read_kaldi_nbest(_folder(tmp_path / "n"))) == LISTS
    (tmp_path / "table").write_text(WORDS, encoding="utf-8")
    (tmp_path / "n" / "words.txt").unlink()
    assert list(read_kaldi_nbest(tmp_path / "n", words=tmp_path / "table")) == LISTS
    with pytest.raises(InputError, match="--words FILE"):
        list(read_kaldi_nbest(tmp_path / "n"))


def test_packed_files_and_archives_in_order_of_number(tmp_path: Path) -> None:
    for job, key in ((10, "c"), (2, "b"), (1, "a")):
        folder = _folder(tmp_path / f"archives.{job}", words="", acwt="", lmwt="")
        packed = gzip.compress(f"{key}-1 w\n".encode())
        (folder / "words_text.gz").write_bytes(packed)
        (folder / "acwt").write_text(f"{key}-1 1\n", encoding="utf-8")
    found = list(read_kaldi_nbest(tmp_path))
    assert [nbest.utt for nbest in found] == ["a", "b", "c"]
    assert found[0].hyps == (Hypothesis("w", -1.0, None),)


def test_the_folders_of_kaldis_rescoring(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """rnnlmrescore.sh leaves ids and symbols, and LM costs under other names than lmwt."""
    for job in (1, 2):
        folder = _folder(tmp_path / f"archives.{job}", lmwt="", words=f"u{job}-1 1\n", acwt="")
        for name, text in (("words_text", "ZEBRA"), ("lmwt.nolm", "7"), ("lmwt.withlm", "2.5")):
            (folder / name).write_text(f"u{job}-1 {text}\n", encoding="utf-8")
    zebra = (Hypothesis("ZEBRA", None, -2.5),)
    assert list(read_kaldi_nbest(tmp_path)) == [NBest("u1", zebra), NBest("u2", zebra)]
    assert not caplog.records
    (folder / "lmwt").write_text("u2-1 3.5\n", encoding="utf-8")
    assert next(read_kaldi_nbest(folder)).hyps == (Hypothesis("ZEBRA", None, -3.5),)
    for job in (1, 2):
        (tmp_path / f"archives.{job}" / "lmwt.withlm").unlink()
    (folder / "lmwt").unlink()
    assert [one.hyps[0].lm for one in read_kaldi_nbest(tmp_path)] == [None, None]
    (record,) = caplog.records
    assert "so no LM scores; not read: lmwt.nolm" in record.getMessage()


def test_ids_are_written_with_a_table(tmp_path: Path) -> None:
    table = tmp_path / "table"
    table.write_text(WORDS, encoding="utf-8")
    write_kaldi_nbest(tmp_path / "out", LISTS, words=table)
    assert (tmp_path / "out" / "words").read_text() == IDS.replace(" 9 3 0", " 3")
    assert list(read_kaldi_nbest(tmp_path / "out", words=table)) == LISTS
    for hyp, found in ((Hypothesis("B", 0.0, 0.0), "has no id"), (Hypothesis("A", 0.0), "acwt")):
        with pytest.raises(ValueError, match=found):
            write_kaldi_nbest(tmp_path / "out", [LISTS[0], NBest("u", (hyp,))], words=table)
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(ValueError, match="holds precious"):
        write_kaldi_nbest(tmp_path / "out", LISTS)


@pytest.mark.parametrize(
    ("name", "old", "new", "found"),
    [
        ("words", "0000-2 9", "0000-1 9", "expected 12-34-0000-1, as in"),
        ("words", "12-34-0000-2 9", "x 9", "key 'x'"),
        ("words", "1 2\n", "1 4\n", "word id 4 is not in"),
        ("words", "1 2\n", "1 A\n", "word id 'A' is not"),
        ("words", "12-34-0001-1\n", "\n", "key ''"),
        ("acwt", "0000-2", "0000-3", "key '12-34-0000-3'"),
        ("acwt", "44.5", "nan", "'nan' is not a cost"),
        ("lmwt", "0\n", "-inf\n", "'-inf' is not a cost"),
        ("lmwt", "0\n", "0 1\n", "expected a key and one cost"),
        ("lmwt", "12-34-0001-1 2e0\n", "", "an end before 12-34-0001-1"),
        ("words", "12-34-0001-1\n", "", "after the last key"),
        ("words.txt", "A 1", "A 2", "symbol or id again"),
        ("words.txt", "<eps> 0", "B 0", "<eps> for id 0"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, name: str, old: str, new: str, found: str) -> None:
    text = {"words": IDS, "acwt": ACWT, "lmwt": LMWT, "words.txt": WORDS}[name]
    folder = _folder(tmp_path / "n", **{name: text.replace(old, new, 1)})
    with pytest.raises(InputError, match="(?s)" + found.replace("(", r"\(")):
        list(read_kaldi_nbest(folder))


def test_an_utterance_that_returns_is_refused(tmp_path: Path) -> None:
    for keys, found in ((("a-1", "b-1", "a-2"), "a again"), (("a-2", "a-2"), "rank 2 after 2")):
        lines = "".join(f"{key} x\n" for key in keys)
        folder = _folder(tmp_path / keys[0], words="", words_text=lines, acwt="", lmwt="")
        with pytest.raises(InputError, match=found):
            list(read_kaldi_nbest(folder))
