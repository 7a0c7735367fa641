"""The canonical n-best file: round trip, and one line that names what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.errors import InputError
from asrprune.firstpass.formats.jsonl import HEADER, read_nbest, write_nbest

LISTS = [
    NBest("a-1", (Hypothesis("he said", -5.1, -0.1, (3, 4)), Hypothesis("", None, None)), 1.5, "x"),
    NBest("b", (Hypothesis("i", -1e-300, 0.1 + 0.2),)),
    NBest("é", (Hypothesis("naïve 日本", 2.0, -3.0),)),
]


@pytest.mark.parametrize("name", ["n.jsonl", "n.jsonl.gz"])
def test_write_then_read_returns_the_same(tmp_path: Path, name: str) -> None:
    write_nbest(tmp_path / name, LISTS, {"decoder": "d"})
    assert list(read_nbest(tmp_path / name)) == LISTS


def test_header_and_lines_are_as_documented(tmp_path: Path) -> None:
    write_nbest(tmp_path / "n", LISTS[:1])
    lines = (tmp_path / "n").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0]) == HEADER
    assert json.loads(lines[1])["hyps"][1] == {"text": "", "acoustic": None, "lm": None}


def test_reading_streams(tmp_path: Path) -> None:
    write_nbest(tmp_path / "n", LISTS)
    with open(tmp_path / "n", "a", encoding="utf-8") as stream:
        stream.write("broken\n")
    lists = read_nbest(tmp_path / "n")
    assert [next(lists).utt for _ in range(3)] == ["a-1", "b", "é"]
    with pytest.raises(InputError, match=r":5: bad JSON"):
        next(lists)


GOOD = '{"utt": "u", "hyps": [{"text": "a", "acoustic": -1, "lm": null}]}'


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("\n" + GOOD, "bad JSON"),
        ("[]", "expected a JSON object"),
        ('{"hyps": []}', "no 'utt'"),
        ('{"utt": "a b", "hyps": [{"text": ""}]}', "white space"),
        ('{"utt": "u"}', "utterance u: no 'hyps'"),
        ('{"utt": "u", "hyps": []}', "utterance u: no hypothesis"),
        ('{"utt": "u", "hyps": [{"acoustic": 1}]}', "hypothesis 1: no 'text'"),
        (
            '{"utt": "u", "hyps": [{"text": "a", "acoustic": NaN}]}',
            "the number NaN",
        ),
        (
            '{"utt": "u", "hyps": [{"text": "a", "lm": -Infinity}]}',
            "the number -Infinity",
        ),
        ('{"utt": "u", "hyps": [{"text": "a", "lm": 1e999}]}', "hypothesis 1: lm score Infinity"),
        ('{"utt": "u", "hyps": [{"text": "a", "lm": "-1"}]}', 'lm score "-1"'),
        ('{"utt": "u", "hyps": [{"text": "a", "lm": true}]}', "lm score true"),
        ('{"utt": "u", "hyps": [{"text": "a", "score": 1}]}', "unknown key 'score'"),
        ('{"utt": "u", "hyps": [{"text": "a"}], "dur": 1}', "unknown key 'dur'"),
        ('{"utt": "u", "hyps": [{"text": "a  b"}]}', "white space"),
        ('{"utt": "u", "hyps": [{"text": "a\\tb"}]}', "white space"),
        ('{"utt": "u", "utt": "v", "hyps": [{"text": "a"}]}', "'utt' again in one object"),
        ('{"utt": "u", "hyps": [{"text": "a"}], "audio_s": -1}', "audio_s is -1"),
        (GOOD, "utterance u again (first on line 2)"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, found: str) -> None:
    path = tmp_path / "n.jsonl"
    path.write_text("\n".join([json.dumps(HEADER), GOOD, line]) + "\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        list(read_nbest(path))
    assert str(caught.value).startswith(f"{path}:3: ")
    assert found in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"log_base": 10}, {"sign": "cost"}, {"format": "x"}, {"sign": None}]
)
def test_a_wrong_header_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "n.jsonl"
    path.write_text(json.dumps({**HEADER, **change}) + "\n" + GOOD + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=next(iter(change))):
        list(read_nbest(path))


def test_no_header_and_empty_file(tmp_path: Path) -> None:
    for text, found in ((GOOD + "\n", "without 'format'"), ("", "empty file")):
        (tmp_path / "n").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=found):
            list(read_nbest(tmp_path / "n"))


def test_numbers_of_arrays_are_written_as_numbers(tmp_path: Path) -> None:
    ids = tuple(np.array([3, 4]))
    hyp = Hypothesis("a", np.float32(-1.5), np.float64(-2.25), ids)
    write_nbest(tmp_path / "x.jsonl", [NBest("u", (hyp,), np.float32(2.5))])
    expected = NBest("u", (Hypothesis("a", -1.5, -2.25, (3, 4)),), 2.5)
    assert list(read_nbest(tmp_path / "x.jsonl")) == [expected]


def test_what_json_cannot_hold_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="utterance u: lm score -inf"):
        write_nbest(tmp_path / "n", [NBest("u", (Hypothesis("a", 0.0, float("-inf")),))])
    with pytest.raises(ValueError, match="comes twice"):
        write_nbest(tmp_path / "n", [LISTS[0], LISTS[0]])
    assert not (tmp_path / "n").exists()
