"""Plots as SVG that is the same for the same plot."""

from __future__ import annotations

from typing import Any, BinaryIO

_SALT = "asrprune"


def write_svg(figure: Any, stream: BinaryIO) -> None:
    """Write a figure of matplotlib, without the date, its parts named by what they are: matplotlib
    draws other names for each file."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": _SALT}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
