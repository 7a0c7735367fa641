"""The verdict and the LMs that are recommended follow from the rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from asrprune.report.budgets import (
    asked_sentence,
    main_rows,
    recommend,
    speed_over,
    verdict_sentence,
)
from asrprune.report.page import first_screen
from asrprune.report.rows import SystemRow

DENSE = SystemRow("dense", "dense", size_bytes=8_000_000, wer_percent=20.0, words=2799)
DENSE = replace(DENSE, times_padded=3.0, padded_lm="dense")


def pruned(name: str, size: int, delta: float, low: float, high: float, fast: float) -> SystemRow:
    row = SystemRow(name, "pruned", size_bytes=size, wer_percent=20 + delta, delta_percent=delta)
    return replace(row, delta_low=low, delta_high=high, times_padded=fast, padded_lm="dense")


HALF = pruned("half", 4_100_000, 0.1, -0.3, 0.5, 6.0)
OTHER = pruned("other", 4_000_000, 0.2, 0.1, 0.5, 9.0)
TINY = pruned("tiny", 900_000, 2.0, 1.5, 2.5, 28.2)


def test_each_budget_has_the_lowest_wer_within_it() -> None:
    rows = [DENSE, OTHER, HALF, TINY, SystemRow("tri", "n-gram", size_bytes=1, delta_percent=-9.0)]
    found = {one.limit: one.row and one.row.name for one in recommend(rows, DENSE)}
    assert found == {
        "half the size": "half",  # 2.5 % over it
        "a quarter of the size": "tiny",
        "a tenth of the size": None,  # 11 % over it
        "2 times as fast": "half",
        "5 times as fast": "tiny",
        "10 times as fast": None,
    }
    assert [row.name for row in main_rows(recommend(rows, DENSE))] == ["half", "tiny"]
    found = {one.limit: one.row and one.row.name for one in recommend([DENSE, OTHER], DENSE)}
    assert list(found.values()) == ["other", None, "other", None]


def test_the_verdict_says_cost_speed_and_what_is_sure() -> None:
    assert verdict_sentence([DENSE, HALF], DENSE) == (
        "At half the size WER +0.10 [-0.30, +0.50], 2.0 times as fast (no loss that 2,799 words "
        "can show)."
    )
    said = verdict_sentence([DENSE, OTHER, HALF, TINY], DENSE)
    assert (
        "; at a quarter of the size WER +2.00 [+1.50, +2.50], 9.4 times as fast (a loss)." in said
    )
    assert said.endswith(
        "Smallest without a clear loss: half (half of the size, +0.10 [-0.30, +0.50])."
    )
    assert verdict_sentence([DENSE, OTHER], DENSE).endswith(
        "(a loss). No pruned LM is without a loss."
    )
    assert verdict_sentence([DENSE], DENSE) == ""
    large = replace(HALF, size_bytes=7_000_000)
    assert verdict_sentence([DENSE, large], DENSE).startswith("half: WER +0.10 [-0.30, +0.50]")


@pytest.mark.parametrize(
    ("change", "speed"),
    [
        ({}, 2.0),
        ({"padded_lm": "another"}, None),
        ({"times_padded": None, "lm_rtf": 0.01}, 4.0),
        ({"times_padded": None}, None),
    ],
)
def test_speed_is_compared_within_one_run(change: dict[str, object], speed: float) -> None:
    row = replace(HALF, **change)  # type: ignore[arg-type]
    assert speed_over(row, replace(DENSE, lm_rtf=0.04)) == speed


def test_the_first_screen_asks_answers_and_recommends() -> None:
    rows = [SystemRow("first", "first pass", wer_percent=30.0), DENSE, HALF, TINY]
    assert asked_sentence(rows, DENSE) == (
        "How small and fast can dense (8.00 MB) get before WER suffers? 2 pruned LMs against it on "
        "2,799 words of test (dense: WER 20.00, first pass 30.00)."
    )
    screen = first_screen(rows, "dense")
    assert screen.index('class="asked"') < screen.index('class="verdict"') < screen.index("<table")
    assert ">vs dense<" in screen
    assert ">none of these LMs<" in screen
    assert "Of 2 pruned LMs the one of the lowest WER" in screen
    assert first_screen(rows, None) == ""
    assert "verdict" not in first_screen([DENSE], "dense")
