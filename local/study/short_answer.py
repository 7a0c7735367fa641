"""The first part of a study's page: the best plan at a half and a quarter of the dense LM's bytes,
and what stands against it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from claims import PERPLEXITY, Measured, shown, trained_small
from intervals import Estimate, Quantity
from results_file import Plan, size_bytes, speed

from asrprune.report.documents import paragraph
from asrprune.report.front import TOLERANCE
from asrprune.report.tables import difference, markdown_lines, megabytes, times

PARTS: Mapping[str, float] = {"half": 1 / 2, "a quarter": 1 / 4}
"""Of the dense LM's bytes."""
DENSE, CONTINUED, SMALL = "the dense LM", "it, trained on as much", "as large from scratch"
"""What a plan is held against, beside n-grams."""
LEGEND = (
    "Differences of the plan to others, of perplexity in percent and of WER in points, with their "
    "95 % intervals; below 0 the plan is ahead. A loss: the whole interval is above 0. Of LMs as "
    "large from scratch those are meant whose tokens are nearest to the dense LM's and the plan's "
    "in all."
)


def short_answer(own: Sequence[Measured]) -> Iterator[str]:
    """The parts of one LM, which was measured by ``own``; the best plan is that by perplexity."""
    lm = own[0].lm
    sizes = {plan: size_bytes(cells) / lm.dense.size_bytes for plan, cells in lm.pruned.items()}
    for name, part in PARTS.items():
        start = f"{lm.name}, {name} of the dense LM's bytes:"
        fitting = [plan for plan, size in sizes.items() if size <= part * (1 + TOLERANCE)]
        if fitting:
            best = min(fitting, key=lambda plan: own[0].pruned[plan].value)
            yield paragraph(f"**{start} {best}** {_facts(best, own, len(fitting))}")
            yield markdown_lines(_table(best, own))
        else:
            least = f"; the smallest has {min(sizes.values()):.2f} of them" if sizes else ""
            yield paragraph(f"**{start}** no plan that was run is that small{least}.")


def _facts(plan: Plan, own: Sequence[Measured], plans: int) -> str:
    lm = own[0].lm
    cells = lm.pruned[plan]
    size = size_bytes(cells)
    said = f"({size / 1e6:.2f} MB, {size / lm.dense.size_bytes:.2f} of them"
    fast, dense = speed(cells), lm.dense.times_padded
    if fast is not None and dense is not None:
        said += f"; {times(fast / dense)} times as fast as the dense LM"
    choice = f"Best perplexity of {plans} plans" if plans > 1 else "No other plan is that small"
    said += f"). {choice}."
    if SMALL not in _against(plan, own[0]):
        said += " The same size from scratch was not run."
    return said


def _table(plan: Plan, own: Sequence[Measured]) -> list[list[str]]:
    """A row a measure, a column each that the plan is held against by some measure."""
    known = [(one, _against(plan, one)) for one in own if plan in one.pruned]
    columns = dict.fromkeys(name for _, others in known for name in others)
    lines = [["by", "plan", *columns]]
    for one, others in known:
        value = one.pruned[plan]
        texts = [""] * len(columns)
        for number, name in enumerate(columns):
            if name in others:
                judged = name in (DENSE, CONTINUED)
                texts[number] = _difference(value, others[name], one, judged)
        by = PERPLEXITY if one.measure == PERPLEXITY else f"WER on {one.measure}"
        shown_value = math.exp(value.value) if one.measure == PERPLEXITY else value.value
        lines.append([by, f"{shown_value:.2f}", *texts])
    return lines


def _against(plan: Plan, one: Measured) -> dict[str, Quantity]:
    """What the plan is held against by this measure: name -> value."""
    size = size_bytes(one.lm.pruned[plan])
    found = {DENSE: one.dense}
    if plan.budget in one.continued:
        found[CONTINUED] = one.continued[plan.budget]
    small = trained_small(one, plan)
    if small:
        found[SMALL] = small[1]
    fitting = [known for known in one.ngrams if known[0] <= size * (1 + TOLERANCE)]
    if fitting:
        ngram_size, ngram = max(fitting, key=lambda known: known[0])
        found[f"n-gram of {megabytes(ngram_size)} MB"] = ngram
    return found


def _difference(value: Quantity, other: Quantity, one: Measured, judged: bool) -> str:
    text = ratio(value, other, one)
    if judged and one.measure != PERPLEXITY:
        estimate = (value - other).estimate()
        if estimate.low > 0:
            text += ", a loss"
        elif estimate.high < 0:
            text += ", a gain"
    return text


def ratio(value: Quantity, other: Quantity, measured: Measured) -> str:
    """The difference in percent of perplexity or points of WER, with its interval."""
    unit = " %" if measured.measure == PERPLEXITY else ""
    return effect(shown(measured, (value - other).estimate())) + unit


def effect(one: Estimate) -> str:
    """A difference with its interval."""
    return difference(one.value, one.low, one.high)
