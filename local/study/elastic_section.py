"""The part of RESULTS.md on elastic LMs: one of them held against a run for each of its sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean

from claims import Measured, separate, shown
from grid import ELASTIC
from results_file import Cell, Plan, size_bytes

from asrprune.report.documents import paragraph
from asrprune.report.tables import difference, markdown_lines, megabytes

WITHIN = 2.0
"""Percent of perplexity that count as level."""


def elastic_section(perplexity: Measured) -> Iterator[str]:
    """For each method and criterion: perplexity by size against separate runs, and what either
    cost. ``perplexity``: an LM by that measure. Nothing where no elastic LM has a separate run."""
    pairs = {plan: separate(perplexity.pruned, plan) for plan in perplexity.pruned}
    groups: dict[Plan, dict[Plan, Plan]] = {}
    for plan, other in pairs.items():
        if other is not None:
            groups.setdefault(other.family, {})[plan] = other
    for family, held in sorted(groups.items()):
        seeds = {len(perplexity.lm.pruned[one]) for pair in held.items() for one in pair}
        yield paragraph(
            f"{perplexity.lm.name}, {family.method} by {family.criterion}: perplexity per word of "
            f"one elastic LM, cut to each size, against one-shot runs for that size alone with "
            f"budget {family.budget:g} (T tokens each), in percent with its interval; "
            f"seeds of each: {' to '.join(map(str, sorted({min(seeds), max(seeds)})))}."
        )
        yield markdown_lines(_sizes(perplexity, held))
        yield "What they cost (means over seeds):"
        yield markdown_lines(_cost(perplexity, held))


def _sizes(one: Measured, held: dict[Plan, Plan]) -> list[list[str]]:
    runs = sorted({plan.family for plan in held})
    others = {other.sparsity: other for other in held.values()}
    lines = [["size", "MB", "separate", *(_heading(one, held, run) for run in runs)]]
    levels: dict[Plan, list[bool]] = {run: [] for run in runs}
    sure: dict[Plan, list[bool]] = {run: [] for run in runs}
    for size, other in sorted(others.items()):
        row = [f"{size:.2f}", megabytes(round(size_bytes(one.lm.pruned[other])))]
        row.append(f"{math.exp(one.pruned[other].value):.1f}")
        for run in runs:
            plan = replace(run, sparsity=size)
            if plan not in held:
                row.append("")
                continue
            estimate = shown(one, (one.pruned[plan] - one.pruned[other]).estimate())
            levels[run].append(estimate.value <= WITHIN)
            sure[run].append(estimate.high <= WITHIN)
            row.append(difference(estimate.value, estimate.low, estimate.high))
        lines.append(row)
    for name, found in ((f"within {WITHIN:g} %", levels), ("all of the interval", sure)):
        lines.append([name, "", "", *(f"{sum(v)} of {len(v)}" for v in found.values())])
    return lines


def _heading(one: Measured, held: dict[Plan, Plan], run: Plan) -> str:
    return f"{run.schedule}, {_multiple(one, held, run):.3g} T"


def _multiple(one: Measured, held: dict[Plan, Plan], run: Plan) -> float:
    """Tokens of an elastic run over those of a separate one."""
    pairs = [pair for pair in held.items() if pair[0].family == run]
    own, others = (fmean(_tokens(one.lm.pruned[p]) for p in side) for side in zip(*pairs))
    return own / others


def _tokens(cells: Sequence[Cell]) -> float:
    return fmean(cell.tokens for cell in cells)


def _seconds(cells: Sequence[Cell]) -> float:
    return fmean(cell.seconds for cell in cells)


def _cost(one: Measured, held: dict[Plan, Plan]) -> list[list[str]]:
    cells = one.lm.pruned
    lines = [["made by", "runs", "tokens", "seconds", "MB of files", "times the largest size's"]]
    others = [cells[other] for other in sorted(set(held.values()))]
    largest = max(size_bytes(found) for found in others)
    sums = _sums([(_tokens(found), _seconds(found)) for found in others])
    files = _files(sum(size_bytes(found) for found in others), largest)
    lines.append(["separate", str(len(others)), *sums, *files])
    for run in sorted({plan.family for plan in held}):
        own = [cells[plan] for plan in held if plan.family == run]
        sizes = [cell.file_bytes for found in own for cell in found if cell.file_bytes]
        largest = max(size_bytes(found) for found in own)
        sums = _sums([(max(map(_tokens, own)), max(map(_seconds, own)))])
        files = _files(fmean(sizes), largest) if sizes else ["", ""]
        lines.append([_heading(one, held, run), "1", *sums, *files])
    return lines


def _sums(spent: Sequence[tuple[float, float]]) -> list[str]:
    return [f"{sum(column):,.0f}" for column in zip(*spent)]


def _files(size: float, largest: float) -> list[str]:
    return [megabytes(round(size)), f"{size / largest:.2f}"]


def is_held(one: Measured, plan: Plan) -> bool:
    """Whether the plan is an elastic one that this section has."""
    return plan.schedule in ELASTIC and separate(one.pruned, plan) is not None
