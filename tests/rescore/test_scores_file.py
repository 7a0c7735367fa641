"""Scores files: they come back as written and stay with their hypotheses."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.errors import InputError
from asrprune.rescore.scores_file import UtteranceScores, make_header, read_scores, write_scores
from tests.damage import flips

LIST = NBest("u1", (Hypothesis("a b"), Hypothesis("")))


def write(path, *values, digest=LIST.digest):
    one = UtteranceScores("u1", digest, np.array(values))
    write_scores(path, make_header("small", seed=1), [one])
    return path


@pytest.mark.parametrize("name", ["scores", "scores.gz"])
def test_read_gives_what_was_written(tmp_path, name):
    values = [-1.0 / 3.0, -math.inf]
    scores = read_scores(write(tmp_path / name, *values))
    assert scores.lm == "small"
    assert scores.header["seed"] == 1
    assert scores.of(LIST).tolist() == values


def test_scores_of_other_hypotheses_are_refused(tmp_path):
    path = write(tmp_path / "scores", -1.0, -2.0)
    changed = NBest("u1", (Hypothesis("a b"), Hypothesis("c")))
    with pytest.raises(InputError, match="utterance u1: scores of other hypotheses"):
        read_scores(path).of(changed)
    with pytest.raises(InputError, match="no scores of utterance u2"):
        read_scores(path).of(NBest("u2", LIST.hyps))
    short = write(tmp_path / "short", -1.0)
    with pytest.raises(InputError, match="utterance u1: scores of other hypotheses"):
        read_scores(short).of(LIST)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_impossible_scores_are_not_written(tmp_path, value):
    with pytest.raises(ValueError, match="utterance u1: score"):
        write(tmp_path / "scores", value)
    assert list(tmp_path.iterdir()) == []


HEADER = json.dumps(make_header("lm"))
GOOD = '{"utt": "u1", "hash": "h", "scores": [-1.0]}'


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "an empty file"),
        ("hello\n", 1, "bad JSON"),
        ("[]\n", 1, "a list"),
        ('{"format": "asrprune-nbest"}\n', 1, 'format "asrprune-nbest"'),
        (HEADER.replace('"version": 1', '"version": 2'), 1, "version 2"),
        (HEADER.replace('"e"', '"10"'), 1, 'log_base is "10"'),
        (f"{HEADER}\n{GOOD}\n{GOOD}\n", 3, "utterance u1 again"),
        (f"{HEADER}\n{GOOD[:-5]}\n", 2, "bad JSON"),
        (f"{HEADER}\n\n{GOOD}\n", 2, "bad JSON"),
        (f"{HEADER}\n{GOOD.replace('-1.0', 'null')}\n", 2, "utterance u1: score 1 is null"),
        (f"{HEADER}\n{GOOD.replace('-1.0', '-1e200')}\n", 2, "utterance u1: score 1 is -1e.200"),
        (f"{HEADER}\n{GOOD.replace('-1.0', 'NaN')}\n", 2, "the number NaN"),
        (f"{HEADER}\n{GOOD.replace('-1.0', 'true')}\n", 2, "utterance u1: score 1 is true"),
        (f'{HEADER}\n{{"utt": "u1"}}\n', 2, "without utt, hash and scores"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path, text, line, message):
    path = tmp_path / "scores"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as info:
        read_scores(path)
    assert info.value.line == line


def test_blank_lines_at_the_end_are_none(tmp_path):
    path = tmp_path / "scores"
    path.write_text(f"{HEADER}\n{GOOD}\n\n \n", encoding="utf-8")
    assert list(read_scores(path).utterances) == ["u1"]


def test_every_flipped_bit_is_found(tmp_path):
    path = write(tmp_path / "scores", -1.0 / 3.0, -math.inf)
    for _ in flips(path, 100):
        with pytest.raises(InputError, match="scores:"):
            read_scores(path)


def test_a_line_without_a_checksum_is_taken_and_a_wrong_one_is_not(tmp_path):
    path = write(tmp_path / "scores", -1.0, -2.0)
    header, line = path.read_text(encoding="utf-8").splitlines()
    changed = line.replace("-2.0", "-2.5")
    path.write_text(f"{header}\n{changed}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"scores:2: .* does not fit its crc32"):
        read_scores(path)
    for first in (header, header[: header.index(', "crc32"')] + "}"):
        by_hand = changed[: changed.index(', "crc32"')] + "}"
        path.write_text(f"{first}\n{by_hand}\n", encoding="utf-8")
        assert read_scores(path).of(LIST).tolist() == [-1.0, -2.5]
