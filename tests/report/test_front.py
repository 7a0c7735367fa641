"""The first screen: its rows, its columns, and sentences that follow from the numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from asrprune.errors import InputError
from asrprune.report.front import FRACTIONS, make_front, size_class
from asrprune.report.page import legend
from asrprune.report.rows import SystemRow
from asrprune.report.tables import FRONT_COLUMNS, cells

DENSE = SystemRow(
    "dense", "dense", size_bytes=8_000_000, wer_percent=20.0, words=2799, engine="onnx"
)
DENSE = replace(DENSE, times_padded=3.14, padded_lm="dense")


def pruned(name: str, size: int, *interval: float, **more: Any) -> SystemRow:
    """A pruned row with a difference and its interval."""
    delta, low, high = interval
    columns = {"delta_percent": delta, "delta_low": low, "delta_high": high, **more}
    return SystemRow(name, "pruned", size_bytes=size, **columns)


def sentences(*rows: SystemRow, base: SystemRow = DENSE) -> tuple[str, ...]:
    """Those of a front with all of the rows."""
    return make_front([base, *rows], [row.name for row in (base, *rows)], base.name).sentences


def test_a_sentence_has_size_cost_and_speed() -> None:
    row = pruned("small", 2_050_000, 0.1, -0.25, 0.45, times_padded=9.42, padded_lm="dense")
    assert sentences(row) == (
        "A quarter of the dense LM's bytes (2.05 MB, small): WER +0.10 [-0.25, +0.45], no loss "
        "that 2,799 words can show; 9.4 times as fast as the dense LM's padded fp32 batch "
        "(dense itself: 3.1).",
    )


@pytest.mark.parametrize(
    ("delta", "low", "high", "verdict"),
    [
        (0.5, 0.01, 1.0, "a loss"),
        (0.5, 0.0, 1.0, "no loss that 2,799 words can show"),
        (-0.5, -1.0, 0.0, "no gain that 2,799 words can show"),
        (-0.5, -1.0, -0.01, "a gain"),
    ],
)
def test_the_verdict_is_that_of_the_interval(
    delta: float, low: float, high: float, verdict: str
) -> None:
    (said,) = sentences(pruned("small", 2_000_000, delta, low, high))
    assert said.endswith(f"], {verdict}.")
    (said,) = sentences(replace(pruned("tri", 9, delta, low, high), kind="n-gram", delta_p=0.0004))
    assert said.startswith("The n-gram LM (0.00 MB, tri) against the dense LM: WER ")
    assert said.endswith(f"], p <0.001, {verdict}.")


def test_classes_go_from_large_to_small_and_hold_all_of_their_rows() -> None:
    rows = [
        pruned("c", 2_100_000, 0.3, 0.1, 0.5, times_padded=5.0, padded_lm="other"),
        pruned("a", 4_300_000, 0.1, -1.0, 1.0),
        pruned("e", 1_800_000, 0.2, -1.0, 1.0, times_padded=6.0, padded_lm="other"),
        pruned("b", 1_900_000, 0.2, -1.0, 1.0),
        pruned("d", 3_300_000, 0.4, -1.0, 1.0),
    ]
    half, percent, quarter = sentences(*rows)
    assert half.startswith("Half of the dense LM's bytes (4.30 MB, a): WER +0.10")
    assert percent.startswith("41 % of the dense LM's bytes (3.30 MB, d): WER +0.40")
    assert quarter == (
        "A quarter of the dense LM's bytes: c (2.10 MB) WER +0.30 [+0.10, +0.50], a loss, 5.0 "
        "times as fast as the padded fp32 batch of other; b (1.90 MB) WER +0.20 [-1.00, +1.00], no "
        "loss that 2,799 words can show; e (1.80 MB) WER +0.20 [-1.00, +1.00], no loss that 2,799 "
        "words can show, 6.0 times."
    )


def test_what_is_not_known_is_not_said() -> None:
    assert sentences(SystemRow("small", "pruned", size_bytes=5)) == ()
    row = pruned("small", 2_000_000, 0.1, -0.2, 0.3)
    assert sentences(row, base=replace(DENSE, size_bytes=None)) == ()
    assert make_front([DENSE, row], ["small"]).sentences == ()  # no baseline
    (said,) = sentences(row, base=replace(DENSE, kind="pruned", name="first", words=None))
    assert said == "A quarter of first's bytes (2.00 MB, small): WER +0.10 [-0.20, +0.30], no loss."


@pytest.mark.parametrize(
    ("fraction", "name"),
    [
        (0.5, "half"),
        (0.46, "half"),
        (0.54, "half"),
        (0.44, "44 %"),
        (0.56, "56 %"),
        (0.29, "29 %"),
        (0.31, "a third"),
        (0.24, "a quarter"),
        (0.223, "22 %"),
        (0.05, "a twentieth"),
        (0.004, "0.4 %"),
        (1.2, "120 %"),
    ],
)
def test_a_size_is_named_by_what_is_near(fraction: float, name: str) -> None:
    assert size_class(fraction) == name


def test_every_fraction_is_called_by_its_name() -> None:
    assert [size_class(part) for part in FRACTIONS.values()] == list(FRACTIONS)


def test_names_must_be_rows_and_come_once() -> None:
    with pytest.raises(InputError, match="nobody: no such run; expected names for --front among"):
        make_front([DENSE], ["nobody"])
    with pytest.raises(InputError, match="dense: named twice"):
        make_front([DENSE], ["dense", "dense"])


def test_the_first_screen_has_few_columns() -> None:
    row = pruned("small", 2_050_000, 0.1, -0.25, 0.45, times_padded=9.42, padded_lm="dense")
    row = replace(row, sparsity=0.7, lm_rtf=0.1, engine="onnx", delta_p=0.5, wer_lists_percent=9.0)
    heading, dense, small = cells([DENSE, row], FRONT_COLUMNS)
    assert heading == [
        *("system", "MB", "WER % [95 %]", "vs baseline", "p", "WER on lists", "x padded"),
    ]
    assert dense == ["dense", "8.00", "20.00", "", "", "", "3.1"]
    assert small[-3:] == ["0.500", "9.00", "9.4"]


def test_the_legend_names_engines_that_differ_and_tells_no_more_than_there_is() -> None:
    assert legend([SystemRow("one", "dense", wer_percent=1.0)]) == (
        "WER with its 95 % bootstrap interval over utterances. Score weights are tuned on the dev "
        "set only."
    )
    rows = [DENSE, replace(DENSE, name="small"), replace(DENSE, name="tri", engine="kenlm")]
    assert legend(rows).endswith(
        "only. MB is the saved weights file. x padded: times as fast as the padded fp32 batch of "
        "dense, median over the repeats; engine onnx (tri: kenlm)."
    )
