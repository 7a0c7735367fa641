"""A plot is the same text each time that it is drawn."""

from __future__ import annotations

import io

import pytest

from asrprune.core.svg import write_svg


def test_the_same_plot_is_the_same_text() -> None:
    figures = pytest.importorskip("matplotlib.figure")

    def drawn() -> bytes:
        figure = figures.Figure(figsize=(2, 2))
        axes = figure.add_subplot()
        axes.plot([1, 2], [3, 4], "o-")  # markers and clip paths have names
        stream = io.BytesIO()
        write_svg(figure, stream)
        return stream.getvalue()

    assert drawn() == drawn()
    assert b"<dc:date>" not in drawn()
