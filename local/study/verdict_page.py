"""RESULTS.md of a study: the short answer, the verdicts, and the tables of each LM."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from statistics import median

from claims import (
    CLAIMS,
    FREEDOM,
    PERPLEXITY,
    Judged,
    Measured,
    judge,
    measure,
    verdict,
    would_change,
)
from elastic_section import elastic_section, is_held
from grid import CONTINUED
from intervals import ALPHA, REPLICATIONS, Quantity
from results_file import NGRAM, SCRATCH, Cell, Lm, Plan, Results
from short_answer import LEGEND, effect, ratio, short_answer

from asrprune.report.documents import hand, joined, paragraph
from asrprune.report.front import markdown_item
from asrprune.report.tables import difference, markdown_lines, megabytes, probability

BY_HAND = ("setting", "reading")
"""The parts of RESULTS.md that are written by hand."""
MADE = (
    "<!-- Made of results.json by local/study/write_results.py: change only what is between marks "
    '"by hand". -->'
)
CRITERIA = ("magnitude", "magnitude-normalised", "taylor", "fisher", "kfac", "activation")
METHODS = ("unstructured", "structured", "width", "low-rank", "low-rank+structured")
SCHEDULES = {"one-shot": METHODS, "cubic": METHODS, "elastic": METHODS[3:]}
SPARSITIES, BUDGETS, SEEDS = (0.3, 0.5, 0.7, 0.8, 0.9), (0.0, 0.01, 0.1), (1, 2)
"""The whole grid; without fine-tuning there is one-shot only."""
MOST_SIZES = 6
"""Of a plan, for a table to show all of them: more are a curve, as elastic LMs are held against."""
FACTORS: Mapping[str, Callable[[Judged], str]] = {
    "LM": lambda one: one.comparison.measured.lm.name,
    "list": lambda one: _list(one.comparison.measured),
    "method": lambda one: one.comparison.plan.method,
    "criterion": lambda one: one.comparison.plan.criterion,
    "schedule": lambda one: one.comparison.plan.schedule,
    "size": lambda one: f"{one.comparison.plan.sparsity:.2f}",
    "budget": lambda one: f"{one.comparison.plan.budget:g}",
    "at": lambda one: one.comparison.at,
    "against": lambda one: one.comparison.against,
}
"""By what comparisons differ."""
RULE = (
    f"An effect is the difference of the claim's side to the other: of perplexity in percent, of "
    f"WER in points; below 0 it is in favour of the claim. In brackets: its 95 % interval, from a "
    f"paired bootstrap over blocks of text or over utterances ({REPLICATIONS:,} replications, "
    f"Student's t), with the variance between seeds where some plan has several. A verdict counts "
    f"the comparisons whose p is below {ALPHA:g} after Holm's correction over all comparisons of "
    f"the claim by that measure; where a side was chosen as the best of k, a p that speaks for it "
    f"is multiplied by k first. Confirmed: some are in favour and none is against. Refuted: the "
    f"reverse. Mixed: some of either. Undecided: none of either."
)


def results_page(results: Results, by_hand: Mapping[str, str]) -> str:
    """RESULTS.md."""
    every = [one for lm in results.lms for one in measure(lm)]
    facts = [markdown_item(f"{label}: {text}") for label, text in results.facts.items()]
    parts = ["# Results of recipes/study", MADE, hand("setting", by_hand), "\n".join(facts)]
    parts += ["## Short answer", paragraph(LEGEND)]
    for lm in results.lms:
        parts += short_answer([one for one in every if one.lm is lm])
    judged = {
        (letter, by): judge(c for one in every if _by(one) == by for c in claim.compare(one))
        for letter, claim in CLAIMS.items()
        for by in (PERPLEXITY, "WER")
    }
    parts += ["## Verdicts", _verdicts(judged), paragraph(f"{RULE} {_seeds(results.lms)}")]
    parts += [_change(judged)]
    parts += [hand("reading", by_hand), "## Where", *_where(judged)]
    for lm in results.lms:
        parts += _lm_section(lm, [one for one in every if one.lm is lm])
    elastic = [part for one in every if one.measure == PERPLEXITY for part in elastic_section(one)]
    parts += ["## One elastic LM for every size", *elastic] if elastic else []
    parts += ["## Not run", *_not_run(results.lms)]
    parts += ["## All comparisons", *_all_comparisons(judged)]
    return joined(parts)


def _by(measured: Measured) -> str:
    return PERPLEXITY if measured.measure == PERPLEXITY else "WER"


def _list(measured: Measured) -> str:
    return "" if measured.measure == PERPLEXITY else measured.measure


def _verdicts(judged: Mapping[tuple[str, str], Sequence[Judged]]) -> str:
    heading = ["claim", "by", "verdict", "comparisons", "in favour", "against"]
    lines = [[*heading, "effect, median [least, most]"]]
    for (letter, by), found in judged.items():
        claim = f"({letter}) {CLAIMS[letter].said}"
        lines.append([claim, by, verdict(found), *_counts(found)])
    return markdown_lines(lines)


def _counts(found: Sequence[Judged]) -> list[str]:
    """How many there are, in favour, against; the median effect with the range."""
    values = [one.estimate.value for one in found]
    sides = [one.side for one in found]
    spread = difference(median(values), min(values), max(values)) if values else ""
    return [str(len(found)), str(sides.count(-1)), str(sides.count(1)), spread]


def _change(judged: Mapping[tuple[str, str], Sequence[Judged]]) -> str:
    items = [
        markdown_item(f"({letter}) by {by}, {verdict(found)}: {would_change(found)}.")
        for (letter, by), found in judged.items()
    ]
    return "\n".join(["What would change the verdicts:", "", *items])


def _seeds(lms: Iterable[Lm]) -> str:
    """What the intervals know of seeds."""
    several = [len(cells) > 1 for lm in lms for cells in lm.pruned.values()]
    if not any(several):
        return "No plan was run with several seeds: the noise of seeds is in no interval."
    return (
        f"{sum(several)} of {len(several)} plans were run with several seeds; the variance between "
        f"seeds is pooled over the plans of an LM with the same size and budget, where those have "
        f"{FREEDOM} degrees of freedom, else with the same budget, else over all that are elastic "
        f"or all others, else over all, and holds for those with one seed too."
    )


def _where(judged: Mapping[tuple[str, str], Sequence[Judged]]) -> Iterator[str]:
    """For each claim and measure: the counts by every factor that takes several values."""
    for (letter, by), found in judged.items():
        lines = [["by", "value", "comparisons", "in favour", "against", "effect"]]
        for factor, of in FACTORS.items():
            values = dict.fromkeys(sorted(of(one) for one in found))
            if len(values) > 1:
                for value in values:
                    own = [one for one in found if of(one) == value]
                    lines.append([factor, value, *_counts(own)])
        if len(lines) > 1:
            yield f"### ({letter}) by {by}: {verdict(found)}"
            yield markdown_lines(lines)


def _all_comparisons(judged: Mapping[tuple[str, str], Sequence[Judged]]) -> Iterator[str]:
    """Every comparison with its effect, p by itself and p among all of its claim."""
    for (letter, by), found in judged.items():
        if found:
            yield f"### ({letter}) {CLAIMS[letter].said}, by {by}"
            yield paragraph(f"{CLAIMS[letter].compared}.")
            yield markdown_lines(_comparison_lines(found))


def _comparison_lines(found: Sequence[Judged]) -> list[list[str]]:
    kept = {n: f for n, f in FACTORS.items() if any(f(one) for one in found)}
    lines = [[*kept, "effect [95 %]", "p", "p, all"]]
    for one in found:
        texts = [of(one) for of in kept.values()]
        ps = probability(one.estimate.p), probability(one.p)
        lines.append([*texts, effect(one.estimate), *ps])
    return lines


def _lm_section(lm: Lm, own: Sequence[Measured]) -> Iterator[str]:
    words, blocks = sum(lm.block_words), len(lm.block_words)
    facts = {
        "parameters": f"{lm.parameters:,}, d_model {lm.d_model}",
        "MB": megabytes(lm.dense.size_bytes),
        "tokens of its training": f"{lm.training_tokens:,}",
        "measured on": f"{lm.text} text, {words:,} words in {blocks} blocks",
        **lm.facts,
    }
    yield f"## LM {lm.name}"
    yield "\n".join(markdown_item(f"{label}: {text}") for label, text in facts.items())
    perplexity, *lists = own
    yield f"Perplexity per word; dense {math.exp(perplexity.dense.value):.1f}:"
    yield from _by_budget(perplexity, lambda one, value: f"{math.exp(value.value):.1f}")
    for one in lists:
        yield _list_words(one)
        yield from _by_budget(one, lambda one, value: ratio(value, one.dense, one))
    yield from _others(lm, own)
    if lm.pruned:
        yield "Cost of a run (that of a family or an elastic LM makes all of its sizes), medians:"
        yield markdown_lines(_cost(lm.pruned))


def _list_words(one: Measured) -> str:
    of = next(found for found in one.lm.lists if found.name == one.measure)
    words = sum(of.words)
    first, oracle = (100 * sum(e) / words for e in (of.first_pass_errors, of.oracle_errors))
    dense = one.lm.dense.errors[one.measure]
    errors = [cell.errors.get(one.measure) for cells in one.lm.pruned.values() for cell in cells]
    known = [column for column in errors if column is not None]
    others = sum(column != dense for column in known)
    return paragraph(
        f"WER on {one.measure} ({len(of.oracle_errors)} utterances, {words:,} words): dense "
        f"{one.dense.value:.2f} %, first pass {first:.2f}, oracle {oracle:.2f}; {others} of "
        f"{len(known)} pruned LMs have other errors than the dense one in some utterance. The "
        f"difference to the dense LM in points:"
    )


def _by_budget(one: Measured, text: Callable[[Measured, Quantity], str]) -> Iterator[str]:
    """Plans against sizes, a table a budget; without the elastic plans that have a part of their
    own, and of a plan with more than MOST_SIZES sizes without those that no other was run at."""
    shown_here = [plan for plan in one.pruned if not is_held(one, plan)]
    for budget in sorted({plan.budget for plan in shown_here}):
        plans = [plan for plan in shown_here if plan.budget == budget]
        families = sorted({plan.family for plan in plans})
        counts = Counter(plan.sparsity for plan in plans)
        of_each = Counter(plan.family for plan in plans)
        few = {plan.sparsity for plan in plans if of_each[plan.family] <= MOST_SIZES}
        shared = {size for size, n in counts.items() if n > 1 or len(families) == 1}
        sizes = sorted(few | shared)
        lines = [[f"budget {budget:g}", "criterion", "schedule", "seeds", *_headings(sizes)]]
        for family in families:
            row = [replace(family, sparsity=size) for size in sizes]
            seeds = {len(one.lm.pruned[plan]) for plan in row if plan in one.pruned}
            if not seeds:
                continue
            texts = [text(one, one.pruned[plan]) if plan in one.pruned else "" for plan in row]
            named = [family.method, family.criterion, family.schedule]
            lines.append([*named, _range(seeds), *texts])
        yield markdown_lines(lines)


def _headings(sizes: Iterable[float]) -> list[str]:
    return [f"{size:.2f}" for size in sizes]


def _range(numbers: Iterable[int]) -> str:
    known = sorted(numbers)
    return str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"


def _others(lm: Lm, own: Sequence[Measured]) -> Iterator[str]:
    """The LMs that were not pruned: the dense one trained on, those trained small, n-grams."""
    cells = [cell for kind in (CONTINUED, SCRATCH, NGRAM) for cell in lm.of_kind(kind)]
    if cells:
        lines = [["not pruned", "kind", "MB", "tokens", "ppl/word", *(x.name for x in lm.lists)]]
        for cell in sorted(cells, key=lambda cell: (cell.kind, -cell.size_bytes, cell.name)):
            perplexity = math.exp(sum(cell.nll) / sum(lm.block_words))
            wers = [_wer(cell, one.name, sum(one.words)) for one in lm.lists]
            size, tokens = megabytes(cell.size_bytes), f"{cell.tokens:,}" if cell.tokens else ""
            lines.append([cell.name, cell.kind, size, tokens, f"{perplexity:.1f}", *wers])
        yield "LMs of other making, WER in %:"
        yield markdown_lines(lines)


def _wer(cell: Cell, name: str, words: int) -> str:
    return f"{100 * sum(cell.errors[name]) / words:.2f}" if name in cell.errors else ""


def _cost(plans: Mapping[Plan, Sequence[Cell]]) -> list[list[str]]:
    kinds: dict[tuple[str, str, float], list[Cell]] = {}
    for plan, cells in plans.items():
        kinds.setdefault((plan.method, plan.schedule, plan.budget), []).extend(cells)
    lines = [["method", "schedule", "budget", "cells", "tokens of a member", "seconds of a run"]]
    for (method, schedule, budget), cells in kinds.items():
        tokens, seconds = (
            median(values) for values in zip(*((c.tokens, c.seconds) for c in cells))
        )
        counts = [str(len(cells)), f"{tokens:,.0f}", f"{seconds:,.0f}"]
        lines.append([method, schedule, f"{budget:g}", *counts])
    return lines


def _not_run(lms: Sequence[Lm]) -> Iterator[str]:
    """For each LM: combinations of the whole grid that were run, by method and budget."""
    yield paragraph(
        f"Run, of the combinations of {len(CRITERIA)} criteria, the schedules "
        f"{', '.join(SCHEDULES)} (elastic for low rank and low rank + structured; one-shot alone "
        f"without fine-tuning), "
        f"{len(SPARSITIES)} sizes and {len(SEEDS)} seeds; cells outside of this grid are not "
        f"counted:"
    )
    lines = [["LM", "method", *(f"budget {budget:g}" for budget in BUDGETS)]]
    for lm in lms:
        done = {(cell.plan, cell.seed) for cells in lm.pruned.values() for cell in cells}
        for method in METHODS:
            texts = []
            for budget in BUDGETS:
                wanted = set(_grid(method, budget))
                texts.append(f"{len(wanted & done)} of {len(wanted)}")
            lines.append([lm.name, method, *texts])
    yield markdown_lines(lines)
    missing = [lm.name for lm in lms if not lm.scratch]
    if missing:
        yield f"Not run: LMs of the same size trained from scratch ({', '.join(missing)})."


def _grid(method: str, budget: float) -> Iterator[tuple[Plan, int]]:
    for schedule, methods in SCHEDULES.items():
        if method in methods and (budget or schedule == "one-shot"):
            for criterion, size, seed in product(CRITERIA, SPARSITIES, SEEDS):
                yield Plan(method, criterion, schedule, budget, size), seed
