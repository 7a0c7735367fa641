"""Maps of pruned LMs: what was removed from each matrix, ranks, heads and neurons of each block."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from asrprune.lm.model.shapes import ModelShape
from asrprune.report.lm_files import MatrixReading

Cell = tuple[float, str, str]
"""How much is gone (0 to 1), what the cell says, and what it tells at its hover."""


def removed_map(name: str, matrices: Sequence[MatrixReading]) -> str:
    """A table of blocks and matrices: the percentage that was removed from each."""
    return _map(
        name,
        {
            (one.block, one.name): (
                one.removed,
                f"{100 * one.removed:.0f}",
                f"{one.block}.{one.name}: {one.kept:,} of {one.reference:,} parameters, {one.form}",
            )
            for one in matrices
        },
    )


def rank_map(name: str, shape: ModelShape, matrices: Sequence[MatrixReading]) -> str:
    """The rank of each factored matrix, dark where it is far below the matrix's sides; "" without
    any."""
    found: dict[tuple[int, str], Cell] = {}
    for one in (one for one in matrices if one.block < len(shape.blocks)):
        place = f"{one.block}.{one.name}"
        rank = shape.blocks[one.block].linear(one.name).rank
        sides = [int(part) for part in one.form.split(",")[0].split(" x ") if part.isdecimal()]
        if rank is None or len(sides) != 3:
            found[one.block, one.name] = 0.0, "full", f"{place}: not factored"
            continue
        full = min(sides[0], sides[2])
        gone = 1.0 - rank / full if full else 0.0
        found[one.block, one.name] = gone, str(rank), f"{place}: rank {rank} of {full}"
    return _map(name, found) if any(shown != "full" for _, shown, _ in found.values()) else ""


def unit_map(name: str, shape: ModelShape, parent: ModelShape) -> str:
    """Heads and neurons that are left in each block; "" where none left."""
    pairs = list(zip(shape.blocks, parent.blocks))
    if all((one.heads, one.ffn) == (before.heads, before.ffn) for one, before in pairs):
        return ""
    found: dict[tuple[int, str], Cell] = {}
    for block, (one, before) in enumerate(pairs):
        for what, left, of in (
            ("heads", one.heads, before.heads),
            ("neurons", one.ffn, before.ffn),
        ):
            gone = 1.0 - left / of if of else 0.0
            found[block, what] = gone, str(left), f"block {block}: {left} of {of} {what}"
    return _map(name, found)


def _map(name: str, cells: Mapping[tuple[int, str], Cell]) -> str:
    """A table of (block, column) -> cell, coloured by what is gone."""
    columns = list(dict.fromkeys(column for _, column in cells))
    blocks = sorted({block for block, _ in cells})
    top = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    lines = []
    for block in blocks:
        parts = []
        for column in columns:
            if (block, column) not in cells:
                parts.append("<td></td>")
                continue
            gone, shown, told = cells[block, column]
            tone = round(10 * min(1.0, max(0.0, gone)))
            parts.append(
                f'<td class="h{tone}" title="{html.escape(told)}">{html.escape(shown)}</td>'
            )
        lines.append(f'<tr><th scope="row">{block}</th>{"".join(parts)}</tr>')
    return (
        f'<div class="map scroll" tabindex="0"><table><caption>{html.escape(name)}</caption>'
        f'<thead><tr><th scope="col">block</th>{top}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def scale() -> str:
    """What the colours mean."""
    steps = "".join(f'<td class="h{tone}">{10 * tone}</td>' for tone in range(11))
    return (
        '<div class="map scale scroll" tabindex="0"><table><tbody><tr>'
        f'<th scope="row">removed, %</th>{steps}</tr></tbody></table></div>'
    )
