"""Low rank: every matrix as a sum of rank-one components, of which the least leave."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Optional

from torch import Tensor

from asrprune.core.tables import lookup
from asrprune.lm.model.matrices import FactoredLinear, InterpolativeLinear, LowRankLinear, Matrix
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.groups import Group
from asrprune.prune.masks import Masks
from asrprune.prune.methods.choices import (
    Choice,
    best,
    kept_counts,
    refuse_masks,
    shrink,
    unit_chain,
)
from asrprune.prune.methods.method import Options, Scorer, whole_statistics
from asrprune.prune.selection import Chain
from asrprune.prune.surgery.factorisation import FACTORISATIONS

Make = Callable[[Tensor, Tensor, Optional[Tensor]], Matrix]


def low_rank(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks
) -> None:
    """Remove the rank-one components that lose least score per parameter saved, over all matrices.

    A copy of the model with every matrix factored at full rank is scored by the criterion. A
    dense matrix stays as it is until a rank saves parameters: with two factors only one below
    break-even does, in interpolative form every one. Ranks are multiples of ``multiple_of``. Raises
    ValueError for a masked model or a size out of reach.
    """
    refuse_masks(masks)
    shrink(model, keep, rank_choices(model, scorer, options), scorer, options)


def rank_choices(model: TransformerLM, scorer: Scorer, options: Options) -> list[Choice]:
    """How far the rank of every matrix can go down, one choice each."""
    make: Make = LowRankLinear.from_factors
    if options.form == "interpolative":
        make = InterpolativeLinear.from_factors
    return [
        Choice(one.chain, partial(_keep_best, model, one.group, one.scores, one.counts, make))
        for one in components(model, scorer, options)
    ]


@dataclass(frozen=True)
class Components:
    """A matrix with all its components: ``scores`` [n] of these, and the ranks ``counts`` that the
    levels of ``chain`` leave; level 0 is the matrix as it is stored."""

    group: Group
    scores: Tensor
    chain: Chain
    counts: list[int]


def components(model: TransformerLM, scorer: Scorer, options: Options) -> list[Components]:
    """Every matrix to prune, factored and scored in a copy of the model."""
    factored = _factored(opened(model), scorer, options)
    stored = dict(model.linears())
    groups = [
        _group(place, linear)
        for place, linear in factored.linears()
        if place.name in options.matrices and isinstance(linear, LowRankLinear) and linear.rank
    ]
    found = []
    for group, score in zip(groups, scorer.scores(factored, groups)):
        units = score.double().sum(0)
        found.append(Components(group, units, *_chain(group, stored[group.place], units, options)))
    return found


def _keep_best(
    model: TransformerLM, group: Group, scores: Tensor, counts: list[int], make: Make, level: int
) -> None:
    linear = group.linear
    assert isinstance(linear, LowRankLinear)
    kept = best(scores, counts[level])
    a, b = linear.A.detach()[:, kept], linear.B.detach()[kept]
    model.put(group.place, make(a, b, linear.bias))


def opened(model: TransformerLM) -> TransformerLM:
    """The model with every interpolative matrix as two factors; the same object without one."""
    stored = [one for one in model.linears() if isinstance(one[1], InterpolativeLinear)]
    if not stored:
        return model
    opened = copy.deepcopy(model)
    for place, linear in stored:
        assert isinstance(linear, InterpolativeLinear)
        opened.put(place, LowRankLinear.from_factors(*linear.factors(), linear.bias))
    return opened


def _factored(model: TransformerLM, scorer: Scorer, options: Options) -> TransformerLM:
    """A copy of the model in which every matrix to prune is a product of all its components."""
    factorise, needs = lookup(FACTORISATIONS, options.factorisation, "factorisation")
    linears = {
        place: linear
        for place, linear in model.linears()
        if place.name in options.matrices
        and 0 not in (linear.in_features, linear.out_features)
        and (not isinstance(linear, FactoredLinear) or (options.refactor and linear.rank > 0))
    }
    known = whole_statistics(model, linears, scorer, needs)
    factored = copy.deepcopy(model)
    for place, linear in linears.items():
        a, b = factorise(linear.product().detach(), known[place])
        if isinstance(linear, FactoredLinear):  # the product has no more components than this
            a, b = a[:, : linear.rank], b[: linear.rank]
        factored.put(place, LowRankLinear.from_factors(a, b, linear.bias))
    return factored


def _group(place: Place, linear: LowRankLinear) -> Group:
    """The components as columns of A, each fed by its row of B."""
    height, _ = linear.A.shape
    feeding = linear.B.detach().square().sum(1)
    cost = linear.in_features + linear.out_features
    return Group(place, linear, "A", max(height, 1), 1, cost, feeding)


def _chain(
    group: Group, linear: Matrix, scores: Tensor, options: Options
) -> tuple[Chain, list[int]]:
    """Levels from the matrix as stored down to the smallest rank."""
    units, before = len(scores), linear.weights
    saving = [rank for rank in range(units + 1) if _stored(rank, group, options) < before]
    most = max(saving, default=0)
    counts = kept_counts(units, most, options.min_rank, options.multiple_of)
    saved = [0, *(before - _stored(rank, group, options) for rank in counts[1:])]
    return unit_chain(str(group.place), scores.sort().values, counts, saved), counts


def _stored(rank: int, group: Group, options: Options) -> int:
    """Parameters of a matrix of this rank in the form of ``options``."""
    return rank * (group.cost - rank if options.form == "interpolative" else group.cost)
