"""The plots: where points, whiskers and lines stand, and what labels them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from asrprune.report.axes import Axis, axis_over
from asrprune.report.labels import Box, around, place_labels
from asrprune.report.pareto import group_of, pareto_figure, pareto_figures, short_name
from asrprune.report.rows import SystemRow

FIRST = SystemRow("first", "first pass", wer_percent=20.5)
ORACLE = SystemRow("best of all", "oracle", wer_percent=2.0)
DENSE = SystemRow("dense", "dense", wer_percent=20.0, size_bytes=8_000_000, ppl_word=100.0)
SMALL = SystemRow(
    "small", "pruned", wer_percent=20.4, wer_low=15.0, wer_high=25.0, size_bytes=2_000_000
)
SMALL = replace(SMALL, delta_percent=0.4, delta_low=0.1, delta_high=0.7, ppl_word=120.0)


def numbers(svg: str, of: str, name: str) -> list[float]:
    """An attribute of all lines of a class."""
    return [float(one) for one in re.findall(rf'class="{of}"[^>]* {name}="([\d.-]+)"', svg)]


def test_a_whisker_is_the_paired_interval_around_the_baseline() -> None:
    svg = pareto_figure([DENSE, SMALL], "wer-size", "dense")
    assert svg is not None
    ticks = re.findall(r'<text class="tick" x="52" y="([\d.]+)"[^>]*>([\d.]+)<', svg)
    (y1, wer1), (y2, wer2) = [(float(y) - 4, float(wer)) for y, wer in (ticks[0], ticks[-1])]
    tall = max(numbers(svg, "whisker", "y1")), min(numbers(svg, "whisker", "y2"))
    found = [wer1 + (y - y1) * (wer2 - wer1) / (y2 - y1) for y in tall]
    assert found == pytest.approx([20.1, 20.7], abs=0.01)  # not 15 and 25
    assert "paired 95 % interval to the baseline" in svg
    plain = pareto_figure([DENSE, SMALL], "wer-size")
    assert plain is not None
    assert "paired" not in plain


def test_the_first_pass_is_a_line_and_what_is_far_away_a_note() -> None:
    svg = pareto_figure([FIRST, ORACLE, DENSE, SMALL], "wer-size", "dense")
    assert svg is not None
    assert ">first 20.50</text>" in svg
    assert ">best of all 2.00 ↓</text>" in svg
    assert ">dense 20.00</text>" in svg
    assert len(numbers(svg, "level", "y1")) == 1
    assert len(numbers(svg, "level base", "y1")) == 1


def test_the_front_goes_over_those_that_none_beats() -> None:
    rows = [DENSE, SMALL, replace(SMALL, name="beaten", size_bytes=3_000_000, wer_percent=21.0)]
    svg = pareto_figure(rows, "wer-size", "dense")
    assert svg is not None
    (front,) = re.findall(r'<path class="front" d="(M[^"]*V[^"]*)"', svg)
    assert front.count("H") == 1
    assert 'href="#row-2" aria-label="beaten; 3.00 MB; perplexity 120.0; WER 21.00' in svg
    assert "Pareto front" in svg
    assert "Pareto front" not in (pareto_figure(rows, "wer-ppl", "dense") or "")


def test_fast_is_good_and_only_what_was_measured_is_drawn() -> None:
    rows = [
        replace(DENSE, times_padded=2.0, lm_rtf=0.1),
        replace(SMALL, times_padded=8.0, lm_rtf=0.2),
    ]
    headings = [heading for heading, _ in pareto_figures(rows, "dense")]
    assert headings == ["WER and size", "WER and speed", "WER and perplexity"]
    speed = pareto_figure(rows, "wer-speed", "dense")
    assert speed is not None
    (front,) = re.findall(r'<path class="front" d="(M[^"]*V[^"]*)"', speed)
    assert front.count("H") == 1  # neither beats the other
    rows = [replace(row, times_padded=None) for row in rows]
    assert [heading for heading, _ in pareto_figures(rows)][1] == "WER and time"
    assert pareto_figures([DENSE, replace(SMALL, size_bytes=None, ppl_word=None)]) == []
    unscored = [replace(row, wer_percent=None) for row in (DENSE, SMALL)]
    assert [heading for heading, _ in pareto_figures(unscored)] == ["Perplexity and size"]


def test_names_and_what_is_told_are_escaped() -> None:
    rows = [DENSE, replace(SMALL, name='<b>"x"&')]
    svg = pareto_figure(rows, "wer-size", "dense")
    assert svg is not None
    assert "<b>" not in svg
    assert "&lt;b&gt;&quot;x&quot;&amp;" in svg


def test_long_names_lose_what_their_group_shares() -> None:
    rows = [
        SystemRow(f"width-kfac-cubic-and-more-{size}", "pruned", method="width", sparsity=0.5)
        for size in ("0.50", "0.75")
    ]
    assert [short_name(row, rows) for row in rows] == ["0.50", "0.75"]
    assert short_name(rows[0], rows[:1]) == "0.50"
    assert short_name(DENSE, [DENSE]) == "dense"
    assert group_of(replace(rows[0], criterion="kfac")) == "width, kfac"


def test_labels_lie_on_nothing() -> None:
    points = [(100.0 + step % 5, 100.0 + step, f"label {step}") for step in range(9)]
    taken = [around(x, y) for x, y, _ in points]
    inside = Box(0, 0, 400, 300)
    boxes = [box for box in place_labels(points, taken, [], inside) if box is not None]
    assert len(boxes) >= 6
    for number, box in enumerate(boxes):
        assert box.inside(inside)
        assert not any(box.meets(other) for other in [*taken, *boxes[:number]])
    assert place_labels(points, taken, [], inside) == place_labels(points, taken, [], inside)
    assert place_labels([(5.0, 5.0, "too long for it")], [], [], Box(0, 0, 20, 20)) == [None]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", [[3.0], [0.002, 900.0], [21.58, 22.5], [1.0, 1.0]])
def test_an_axis_holds_its_values_with_ticks(values: list[float], log: bool) -> None:
    axis = axis_over(values, 300, 20, log)
    assert all(axis.holds(value) and 20 < axis.at(value) < 300 for value in values)
    ticks = [value for value, _ in axis.ticks()]
    assert 2 <= len(ticks) <= 12
    assert all(axis.holds(value) for value in ticks)
    assert axis.at(max(values)) <= axis.at(min(values))


def test_one_axis_of_each_kind_by_hand() -> None:
    assert Axis(0, 10, 0, 100).at(2.5) == 25
    assert Axis(1, 100, 0, 100, log=True).at(10) == pytest.approx(50)
