"""The plot of a family: how much of every matrix was removed at every size."""

from __future__ import annotations

import logging
from pathlib import Path

from asrprune.core.svg import write_svg
from asrprune.errors import MissingPackage
from asrprune.files import PathLike, write_binary
from asrprune.prune.run.family import NOT_FINE_TUNED, Family, Member

PLOT = "family.svg"

log = logging.getLogger(__name__)


def write_plot(folder: PathLike, family: Family) -> None:
    """Write ``family.svg`` into the folder: sparsity of each matrix, one line a member.

    Matrices stand in the order in which a token passes them. Raises MissingPackage without
    matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackage("matplotlib", "plot") from None
    names = [row.matrix for row in family.members[0].matrices] if family.members else []
    figure = Figure(figsize=(max(5.0, 0.28 * len(names) + 2.0), 4.2), layout="constrained")
    axes = figure.add_subplot()
    for member in family.members:
        removed = [row.sparsity for row in member.matrices]
        axes.plot(range(len(names)), removed, marker="o", label=_label(family, member))
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("fraction removed")
    axes.grid(alpha=0.25)
    if family.members:
        figure.legend(title="family and sparsity asked", loc="outside right upper")
    with write_binary(Path(folder) / PLOT) as stream:
        write_svg(figure, stream)


def _label(family: Family, member: Member) -> str:
    name = family.name_of(member)
    return name if member.fine_tuned else f"{name}, {NOT_FINE_TUNED}"


def plot_if_possible(folder: PathLike, family: Family) -> None:
    """The same, but without matplotlib one line in the log says so."""
    try:
        write_plot(folder, family)
    except MissingPackage as problem:
        log.info("no %s: %s", PLOT, problem)
