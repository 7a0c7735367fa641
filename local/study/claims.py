"""The study's claims, as comparisons of cells: who is compared with whom, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean, median
from typing import Optional

import numpy as np
from grid import ELASTIC, on_blocks
from intervals import ALPHA, Estimate, Quantity, draws, holm, interpolated
from results_file import NGRAM, Cell, Lm, Plan, size_bytes, speed

from asrprune.prune.methods import METHODS

MAGNITUDES = ("magnitude", "magnitude-l1", "magnitude-normalised")
WITHOUT_DATA = (*MAGNITUDES, "random")
ONE_SHOT, INCREMENTAL = "one-shot", ("linear", "cubic")
FAMILIES = tuple(f"{schedule} family" for schedule in INCREMENTAL)
"""Schedules of a run that makes all sizes on its way."""
LOW_RANK = "low-rank"
MODERATE = (0.3, 0.5)
"""Sparsities of moderate compression, both ends among them."""
REACH = 0.15
"""A curve is read only where a measured size is within this fraction."""
EDGE = 0.025
"""Beyond its smallest and largest LM from scratch only within this fraction, as that LM itself."""
FREEDOM = 4
"""Differences of seeds that make a variance: one or two say nothing of it."""
PERPLEXITY = "perplexity"
Plans = Mapping[Plan, Quantity]
Size = Callable[[Sequence[Cell]], Optional[float]]
SIZES: Mapping[str, Size] = {"equal bytes": size_bytes, "equal speed": speed}
"""At what plans of two methods are compared."""


@dataclass(frozen=True)
class Measured:
    """The cells of one LM by one measure, lower = better: ln perplexity per word, or the WER of a
    list in percent. ``continued``: budget -> the dense LM trained on with it. ``ngrams``: (bytes,
    value) of the n-gram LMs beside it."""

    lm: Lm
    measure: str
    dense: Quantity
    pruned: Plans
    scratch: Plans
    continued: Mapping[float, Quantity]
    ngrams: tuple[tuple[int, Quantity], ...]


@dataclass(frozen=True)
class Comparison:
    """A plan against another: ``difference`` < 0 is in favour of the claim. Where the plan, or what
    it is compared with, was chosen as the best of several, ``choices`` and ``rivals`` say of how
    many: p is multiplied by the number on the side that it speaks for."""

    measured: Measured
    plan: Plan
    against: str
    difference: Quantity
    choices: int = 1
    rivals: int = 1
    at: str = ""


@dataclass(frozen=True)
class Judged:
    """A comparison with its estimate (of perplexity: percent; of WER: points) and its p among all
    comparisons of the claim by one measure."""

    comparison: Comparison
    estimate: Estimate
    p: float

    @property
    def side(self) -> int:
        """-1 significantly in favour of the claim, 1 significantly against it, 0 neither."""
        if self.p >= ALPHA:
            return 0
        return -1 if self.estimate.value < 0 else 1


def measure(lm: Lm) -> Iterator[Measured]:
    """By perplexity, then by the WER of each list."""
    nll = {cell: cell.nll for cell in lm.cells}
    yield _measured(lm, PERPLEXITY, nll, lm.block_words, 1.0)
    for one in lm.lists:
        found = {c: c.errors[one.name] for c in lm.cells if one.name in c.errors}
        if lm.dense in found:
            yield _measured(lm, one.name, found, one.words, 100.0)


def _measured(
    lm: Lm, name: str, sums: Mapping[Cell, Sequence[float]], words: Sequence[int], scale: float
) -> Measured:
    drawn = draws(len(words))
    columns = drawn @ np.array(list(sums.values()), float).T / (drawn @ words)[:, None] * scale
    vectors = dict(zip(sums, np.round(columns.T, 10)))
    pruned, scratch, continued = (
        _known(plans, vectors) for plans in (lm.pruned, lm.scratch, lm.continued)
    )
    noise = _seed_noise([*pruned.items(), *scratch.items()], vectors)

    def quantities(plans: Mapping[Plan, list[Cell]]) -> dict[Plan, Quantity]:
        found = {}
        for plan, cells in plans.items():
            variance, freedom = noise(plan)
            mean = np.mean([vectors[cell] for cell in cells], axis=0)
            found[plan] = Quantity(mean, len(words), variance / len(cells), freedom)
        return found

    dense = Quantity(vectors[lm.dense], len(words))
    ngrams = tuple(
        (cell.size_bytes, Quantity(vectors[cell], len(words)))
        for cell in lm.of_kind(NGRAM)
        if cell in vectors
    )
    longer = {plan.budget: value for plan, value in quantities(continued).items()}
    return Measured(lm, name, dense, quantities(pruned), quantities(scratch), longer, ngrams)


def _known(
    plans: Mapping[Plan, list[Cell]], vectors: Mapping[Cell, np.ndarray]
) -> dict[Plan, list[Cell]]:
    found = {plan: [c for c in cells if c in vectors] for plan, cells in plans.items()}
    return {plan: cells for plan, cells in found.items() if cells}


def _seed_noise(
    plans: Sequence[tuple[Plan, list[Cell]]], vectors: Mapping[Cell, np.ndarray]
) -> Callable[[Plan], tuple[float, float]]:
    """Plan -> the variance between seeds and its degrees of freedom, pooled over the plans of the
    same size and budget where these make FREEDOM at least, else over those of the same budget, else
    over all elastic ones or all others, else over all that there are; (0, inf) without any."""
    pools: dict[object, list[tuple[float, int]]] = {}
    for plan, cells in plans:
        if len(cells) > 1:
            values = [vectors[cell][0] for cell in cells]
            one = float(np.var(values, ddof=1)), len(values) - 1
            for key in _pools(plan):
                pools.setdefault(key, []).append(one)

    def noise(plan: Plan) -> tuple[float, float]:
        variance, freedom = 0.0, 0
        for pool in (pools.get(key, []) for key in _pools(plan)):
            freedom = sum(one for _, one in pool)
            variance = sum(value * one for value, one in pool) / max(freedom, 1)
            if freedom >= FREEDOM:
                break
        return (variance, freedom) if freedom else (0.0, float("inf"))

    return noise


def _pools(plan: Plan) -> tuple[object, ...]:
    """Those that a plan's seeds count in, the nearest first."""
    kind = "elastic" if plan.schedule in ELASTIC else "one run a plan"
    return (plan.budget, plan.sparsity), plan.budget, kind, None


def data_over_magnitude(measured: Measured) -> Iterator[Comparison]:
    """Each data-driven criterion against the best of the magnitudes, all else equal."""
    for plan, value in measured.pruned.items():
        if plan.criterion in WITHOUT_DATA:
            continue
        others = _existing(measured.pruned, (replace(plan, criterion=m) for m in MAGNITUDES))
        if others:
            best = min(others, key=lambda other: others[other].value)
            difference = value - others[best]
            yield Comparison(measured, plan, best.criterion, difference, rivals=len(others))


def over_one_shot(
    measured: Measured, schedules: Sequence[str] = INCREMENTAL
) -> Iterator[Comparison]:
    """Each plan of these schedules against the one-shot plan, all else equal."""
    for plan, value in measured.pruned.items():
        other = replace(plan, schedule=ONE_SHOT)
        if plan.schedule in schedules and other in measured.pruned:
            own, others = (_tokens(measured.lm.pruned[one]) for one in (plan, other))
            at = f"{own / others:.2f} of its tokens" if others else ""
            yield Comparison(measured, plan, ONE_SHOT, value - measured.pruned[other], at=at)


def _tokens(cells: Sequence[Cell]) -> float:
    return fmean(cell.tokens for cell in cells)


def elastic_over_separate(measured: Measured) -> Iterator[Comparison]:
    """Each size of an elastic LM against the run for that size alone."""
    for plan, value in measured.pruned.items():
        other = separate(measured.pruned, plan)
        if other is not None:
            own, others = (_tokens(measured.lm.pruned[one]) for one in (plan, other))
            against = f"{ONE_SHOT}, budget {other.budget:g}"
            difference = value - measured.pruned[other]
            at = f"{own / others:.2f} of its tokens"
            yield Comparison(measured, plan, against, difference, at=at)


def separate(plans: Plans, plan: Plan) -> Optional[Plan]:
    """Of an elastic plan: one-shot pruning to its size alone, with the largest budget that was run
    and is not above its own. None for other plans, and where no such was run."""
    found = [
        other
        for other in plans
        if other.schedule == ONE_SHOT
        and 0.0 < other.budget <= plan.budget
        and plan.schedule in ELASTIC
        and replace(other, schedule=plan.schedule, budget=plan.budget) == plan
    ]
    return max(found, default=None)


def more_at_small_sizes(measured: Measured) -> Iterator[Comparison]:
    """The gain of incremental over one-shot pruning at the smallest size against the gain at the
    largest, all else equal."""
    families: dict[Plan, list[Comparison]] = {}
    for one in over_one_shot(measured):
        families.setdefault(one.plan.family, []).append(one)
    for gains in families.values():
        first, last = gains[0], gains[-1]  # plans are in the order of their sparsity
        if len(gains) > 1:
            against = f"its gain at {first.plan.sparsity:.2f}"
            yield Comparison(measured, last.plan, against, last.difference - first.difference)


def low_rank_over_others(measured: Measured) -> Iterator[Comparison]:
    """Low rank at moderate sparsity against the best other method with the same bytes, and with
    the same speed, criterion, schedule and budget equal, and the embedding left alone as well."""
    lm = measured.lm
    methods = {plan.method for plan in measured.pruned if plan.method == on_blocks(plan.method)}
    for plan, value in measured.pruned.items():
        if plan.method != LOW_RANK or not MODERATE[0] <= plan.sparsity <= MODERATE[1]:
            continue
        for at, of in SIZES.items():
            dense, curves = of([lm.dense]), {}
            for method in sorted(methods - {LOW_RANK}):
                if of is speed and METHODS[method].masks:  # zeros are no faster: noise of timing
                    continue
                curve = _curve(measured.pruned, lm.pruned, replace(plan.family, method=method), of)
                curves[method] = curve + ([(dense, measured.dense)] if dense and curve else [])
            yield from _against_best(measured, plan, value, curves, of(lm.pruned[plan]), at)


def pruned_over_scratch(measured: Measured) -> Iterator[Comparison]:
    """The best plan of each method, size and budget against the best LM of the same bytes that was
    trained from scratch, with about as many tokens in all."""
    strata: dict[tuple[str, float, float], list[Plan]] = {}
    for plan in measured.pruned:
        strata.setdefault((plan.method, plan.budget, plan.sparsity), []).append(plan)
    for plans in strata.values():
        best = min(plans, key=lambda plan: measured.pruned[plan].value)
        small = trained_small(measured, best)
        if small:
            against, other, rivals = small
            difference = measured.pruned[best] - other
            yield Comparison(
                measured, best, against, difference, len(plans), rivals, at="equal bytes"
            )


def trained_small(measured: Measured, plan: Plan) -> Optional[tuple[str, Quantity, int]]:
    """What a plan is held against as the same size from scratch: of the ways of training that reach
    its bytes, those whose tokens are nearest to the dense LM's and the plan's own in all, none with
    fewer than these by more than REACH, and the best of them. Its name, its value there, and how
    many ways it is the best of."""
    size, total = size_bytes(measured.lm.pruned[plan]), 1.0 + plan.budget
    nearest: dict[float, dict[str, Quantity]] = {}
    for family in sorted({one.family for one in measured.scratch}):
        curve = _curve(measured.scratch, measured.lm.scratch, family, size_bytes)
        value = interpolated(curve, size, REACH, EDGE)
        if value is not None and family.budget * (1 + REACH) >= total:
            apart = abs(family.budget - total)
            nearest.setdefault(apart, {})[str(family)] = value
    if not nearest:
        return None
    known = nearest[min(nearest)]
    best = min(known, key=lambda name: known[name].value)
    return best, known[best], len(known)


def _curve(
    plans: Plans, cells: Mapping[Plan, list[Cell]], family: Plan, of: Size
) -> list[tuple[float, Quantity]]:
    """(size or speed, value) of the plans that differ from ``family`` in their sparsity only."""
    found = []
    for plan, value in plans.items():
        size = of(cells[plan]) if plan.family == family else None
        if size is not None:
            found.append((size, value))
    return found


def _against_best(
    measured: Measured,
    plan: Plan,
    value: Quantity,
    curves: Mapping[str, Sequence[tuple[float, Quantity]]],
    size: Optional[float],
    at: str,
) -> Iterator[Comparison]:
    """The comparison with the lowest of the curves at ``size``; none where no curve reaches it."""
    read = {name: size and interpolated(curve, size, REACH) for name, curve in curves.items()}
    known = {name: one for name, one in read.items() if isinstance(one, Quantity)}
    if known:
        best = min(known, key=lambda name: known[name].value)
        difference = value - known[best]
        yield Comparison(measured, plan, best, difference, rivals=len(known), at=at)


def _existing(plans: Plans, wanted: Iterable[Plan]) -> dict[Plan, Quantity]:
    return {plan: plans[plan] for plan in wanted if plan in plans}


@dataclass(frozen=True)
class Claim:
    """What is said, what is compared for it, and the comparisons of one LM by one measure."""

    said: str
    compared: str
    compare: Callable[[Measured], Iterator[Comparison]]


CLAIMS = {
    "a": Claim(
        "A data-driven criterion is better than magnitude",
        "Each data-driven criterion against the best of the magnitude criteria that were run, with "
        "the same method, schedule, size and budget",
        data_over_magnitude,
    ),
    "b": Claim(
        "Incremental pruning is better than one-shot",
        "Each incremental schedule, with a run for each size, against one-shot with the same "
        "method, criterion, size and budget",
        over_one_shot,
    ),
    "b, sizes": Claim(
        "The gain of incremental pruning is largest at small sizes",
        "The difference of incremental to one-shot at the smallest size that both were run at, "
        "minus that at the largest",
        more_at_small_sizes,
    ),
    "b, family": Claim(
        "One incremental run for all sizes is better than a one-shot run for each",
        "The sizes of an incremental run that makes them all on its way against one-shot runs with "
        "its budget each: as many times the fine-tuning in all. The larger sizes of such a run "
        "have seen a part of its tokens",
        partial(over_one_shot, schedules=FAMILIES),
    ),
    "b, elastic": Claim(
        "One elastic LM is better at each size than a one-shot run for it",
        "The sizes of an elastic LM against one-shot runs for each, with the same method and "
        "criterion, and the largest budget of theirs that is not above that of the elastic run, "
        "which makes all sizes",
        elastic_over_separate,
    ),
    "c": Claim(
        "Low rank is the best trade-off at moderate compression",
        f"Low rank with sparsity {MODERATE[0]:g} to {MODERATE[1]:g} against the best other method "
        f"with as many bytes, and with the same speed as the best that makes smaller matrices, all "
        f"with the same criterion, schedule and budget. Between the sizes of a method (the dense "
        f"LM is its largest) ln perplexity or WER is taken as straight over ln bytes or ln speed, "
        f"only within a factor of {1 + REACH:g} of a measured one; the noise of timing is in no "
        f"interval",
        low_rank_over_others,
    ),
    "d": Claim(
        "A pruned LM is better than a small one trained from scratch",
        f"The best plan of each method, size and budget against the best of the LMs trained from "
        f"scratch at its bytes, taken as straight over ln bytes within a factor of {1 + REACH:g} "
        f"of a measured one (smaller than all or larger than all, the nearest within a factor of "
        f"{1 + EDGE:g}): of those whose tokens are nearest to the dense LM's and the plan's in "
        f"all, and not fewer by more than the former factor",
        pruned_over_scratch,
    ),
}
"""Letter -> claim."""


def judge(comparisons: Iterable[Comparison]) -> list[Judged]:
    """All comparisons of a claim by one measure, corrected together (Holm)."""
    every = list(comparisons)
    estimates = [shown(one.measured, one.difference.estimate()) for one in every]
    chosen = [
        min(1.0, one.p * (own.rivals if one.value > 0 else own.choices))
        for own, one in zip(every, estimates)
    ]
    return [Judged(*parts) for parts in zip(every, estimates, holm(chosen))]


def shown(measured: Measured, one: Estimate) -> Estimate:
    """A difference of ln perplexity in percent of the perplexity; of WER as it is, in points."""
    if measured.measure != PERPLEXITY:
        return one
    value, low, high = (100.0 * float(np.expm1(x)) for x in (one.value, one.low, one.high))
    return Estimate(value, low, high, one.p)


def verdict(judged: Sequence[Judged]) -> str:
    """What the significant comparisons say of the claim."""
    sides = {one.side for one in judged}
    if not judged:
        return "not run"
    if {-1, 1} <= sides:
        return "mixed: depends"
    return "confirmed" if -1 in sides else "refuted" if 1 in sides else "undecided"


def would_change(judged: Sequence[Judged]) -> str:
    """What would change the verdict."""
    said = verdict(judged)
    if said == "not run":
        return "any of its comparisons: no two cells that make one were run"
    if said == "undecided":
        half = median((one.estimate.high - one.estimate.low) / 2 for one in judged)
        return f"an effect above {half:.2f}, half an interval in the median, or more seeds and text"
    if said == "mixed: depends":
        return "nothing for the claim as a whole; what holds where is in its table"
    sign = -1 if said == "confirmed" else 1
    nearest = max(judged, key=lambda one: -sign * one.estimate.value)
    own, value = nearest.comparison, f"{nearest.estimate.value:+.2f}"
    where = own.measured.lm.name
    if own.measured.measure != PERPLEXITY:
        where += f", {own.measured.measure}"
    return f"one significant comparison to the contrary; nearest is {own.plan} ({where}: {value})"
