"""References and durations from the layouts that data sets come in."""

from __future__ import annotations

from pathlib import Path

import pytest

from asrprune.errors import InputError
from asrprune.firstpass.references import REFERENCES, Reference, read_references

CUT = (
    '{"id": "c1", "start": 0, "duration": 9, "supervisions": [{"id": "s1", "start": 1, '
    '"duration": 2.5, "text": "a  b"}, {"id": "s2", "duration": 3, "text": ""}]}\n'
    '{"id": "c2", "duration": 4, "supervisions": []}\n'
)
SUPERVISIONS = '{"id": "s1", "recording_id": "r", "start": 0, "duration": 2.5, "text": "a"}\n'
NEMO = '{"audio_filepath": "/x/u-1.wav", "duration": 2, "text": "a b"}\n'
STM = """\
;; a comment
f 1 spk 0.50 2.00 <o,f0,male> a b
f 1 spk 2.00 3.00
f 2 spk 4 5.25 IGNORE_TIME_SEGMENT_IN_SCORING
"""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "lhotse",
            CUT,
            [Reference("s1", "a b", 2.5), Reference("s2", "", 3.0), Reference("c2", None, 4.0)],
        ),
        (
            "lhotse",
            '{"id": "m", "type": "MixedCut", "tracks": [{"offset": 3.0, "cut": {"id": "c2", '
            '"supervisions": [{"id": "s2", "start": 0, "duration": 1, "text": "b"}]}}, '
            '{"cut": {"id": "c1", "supervisions": [{"id": "s1", "start": 1, "duration": 2, '
            '"text": "a"}]}}, {"offset": 4.0, "cut": {"id": "p", "type": "PaddingCut"}}]}\n',
            [Reference("s1", "a", 2.0), Reference("s2", "b", 1.0)],
        ),
        ("lhotse", SUPERVISIONS, [Reference("s1", "a", 2.5)]),
        ("nemo", NEMO, [Reference("u-1", "a b", 2.0)]),
        (
            "trn",
            "a (b) c (spk-u1)\n(spk-u2)\n",
            [Reference("spk-u1", "a (b) c"), Reference("spk-u2", "")],
        ),
        (
            "stm",
            STM,
            [
                Reference("f_1_0000050_0000200", "a b", 1.5),
                Reference("f_1_0000200_0000300", "", 1.0),
                Reference("f_2_0000400_0000525", None, 1.25),
            ],
        ),
    ],
)
def test_files(tmp_path: Path, name: str, text: str, expected: list[Reference]) -> None:
    (tmp_path / "x").write_text(text, encoding="utf-8")
    assert list(read_references(name, tmp_path / "x")) == expected


def test_kaldi_data_folder(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("u-2 a b\nu-1\n", encoding="utf-8")
    assert list(read_references("kaldi", tmp_path)) == [
        Reference("u-2", "a b"),
        Reference("u-1", ""),
    ]
    (tmp_path / "segments").write_text("u-1 r 1.5 2.0\nu-2 r 0 1\n", encoding="utf-8")
    assert [r.audio_s for r in read_references("kaldi", tmp_path)] == [1.0, 0.5]
    (tmp_path / "utt2dur").write_text("u-1 7\nu-2 8.5\n", encoding="utf-8")
    assert [r.audio_s for r in read_references("kaldi", tmp_path)] == [8.5, 7.0]
    (tmp_path / "utt2dur").write_text("u-1 7\n", encoding="utf-8")
    with pytest.raises(InputError, match="'u-2' has no duration"):
        list(read_references("kaldi", tmp_path))


@pytest.mark.parametrize("name", list(REFERENCES))
@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"\n", b"x\n", b"[1]\n", b"{}\n", b"(a b)\n", b"f 1 s 2 1 a\n"]
)
def test_other_content_is_one_input_error(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "x"
    if name == "kaldi":
        path.mkdir()
        (path / "text").write_bytes(content + b"x\n")  # a second x or a bad line
        if content not in (b"\xff", b"\n", b"x\n"):
            return
    else:
        path.write_bytes(content)
    with pytest.raises(InputError):
        list(read_references(name, path))


@pytest.mark.parametrize("name", ["lhotse", "trn", "stm"])
def test_an_utterance_that_comes_twice_is_refused(tmp_path: Path, name: str) -> None:
    line = {"lhotse": SUPERVISIONS, "trn": "a (u)\n", "stm": "f 1 s 0 1 a\n"}[name]
    (tmp_path / "x").write_text(line * 2, encoding="utf-8")
    with pytest.raises(InputError, match="again"):
        list(read_references(name, tmp_path / "x"))
    with pytest.raises(ValueError, match="unknown kind of references"):
        list(read_references("paper", tmp_path / "x"))


def test_labels_and_notes_of_an_stm_are_no_words(tmp_path: Path) -> None:
    lines = ["t 1 ann 1 2.5 <NA> oh yes", "t 1 ann 3 4 <F1_F> {LAUGH} no (2) (t-3-4-F1)"]
    lines += [";; comment", "t 1 x 4 5 <o> IGNORE_TIME_SEGMENT_IN_SCORING", "t 1 ann 5 6 <o>"]
    (tmp_path / "x").write_text("\n".join(lines) + "\n")
    found = list(read_references("stm", tmp_path / "x"))
    assert [one.text for one in found] == ["oh yes", "no", None, ""]
    assert found[0].audio_s == 1.5


def test_references_of_ctm_and_recogs(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("u1 1 0.5 0.1 day\nu1 1 0.1 0.1 good\n;; x\nu2 1 0 1 yes\n")
    assert [(one.utt, one.text) for one in read_references("ctm", tmp_path / "c")] == [
        ("u1", "good day"),
        ("u2", "yes"),
    ]
    (tmp_path / "r").write_text("u1:\tref=['it', \"'s\"]\nu1:\thyp=['is']\n")
    assert [one.text for one in read_references("recogs", tmp_path / "r")] == ["it 's"]
    for name in ("ctm", "recogs"):
        (tmp_path / "bad").write_text("u1 what\n")
        with pytest.raises(InputError, match="bad:1: "):
            list(read_references(name, tmp_path / "bad"))


def test_alternatives_are_refused_with_the_utterance(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("yes (a-1)\n{ um / @ } no (a-2)\n")
    with pytest.raises(
        InputError, match=r"x:2: utterance a-2: an alternation .* take alternatives"
    ):
        list(read_references("trn", tmp_path / "x"))
