"""Our counts are those of sclite (Debian's sctk), jiwer and compute-wer's printed lines."""

from __future__ import annotations

import random

import pytest

from asrprune.wer.score import ScoringRules
from tests.bench.wer_table import (
    ROWS,
    Row,
    compare,
    draw,
    find_sclite,
    jiwer_cer,
    kaldi_lines,
    ours,
)

PAIRS = 60


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_counts_of_sclite(row: Row) -> None:
    program = find_sclite()
    if program is None:
        pytest.skip("sclite is missing: apt-get install -y sctk")
    mine, other, differ, errors = compare(row, draw(row, PAIRS, random.Random(5)), program)
    assert mine.errors > 20  # there was something to count
    if row.name == "both marks":  # equally cheap alignments: another one may be taken
        assert differ <= 2
        return
    assert (mine, differ, errors) == (other, 0, 0)


def test_the_lines_of_compute_wer_byte_for_byte() -> None:
    pairs = draw(ROWS[0], PAIRS, random.Random(6))
    assert ours(Row("", ScoringRules()), pairs).kaldi_lines() == kaldi_lines(pairs)


def test_the_cer_of_jiwer() -> None:
    row = next(row for row in ROWS if row.name == "--unit char")
    pairs = draw(row, PAIRS, random.Random(7))
    rules = ScoringRules(row.rules.form)
    assert ours(Row("", rules), pairs).counts.wer_percent == pytest.approx(jiwer_cer(pairs))
