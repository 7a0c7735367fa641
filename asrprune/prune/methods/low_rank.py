"""Low rank: every matrix as a sum of rank-one components, of which the least leave."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

from torch import Tensor

from asrprune.core.tables import lookup
from asrprune.lm.model.layers import AnyLinear, DenseLinear, LowRankLinear, PivotedLinear
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.gates import Gate, entry, whole
from asrprune.prune.masks import Masks, matrix_key
from asrprune.prune.methods.choices import (
    Choice,
    best,
    kept_counts,
    refuse_masks,
    shrink,
    unit_chain,
)
from asrprune.prune.methods.method import Options, Scorer, stored_parameters
from asrprune.prune.selection import Chain
from asrprune.prune.statistics import MatrixStatistics
from asrprune.prune.surgery.compaction import low_rank_linear, pivoted_linear, replace_linear
from asrprune.prune.surgery.factorisation import FACTORISATIONS

Place = tuple[int, str]
"""Block index and matrix name."""


def low_rank(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks
) -> None:
    """Remove the rank-one components that lose least score per parameter saved, over all matrices.

    A copy of the model with every matrix factored at full rank is scored by the criterion. A
    dense matrix stays as it is until a rank saves parameters: with two factors only one below
    break-even does, in pivoted form every one. Ranks are multiples of ``multiple_of``. Raises
    ValueError for a masked model or a size out of reach.
    """
    refuse_masks(masks)
    shrink(model, keep, rank_choices(model, scorer, options), options)


def rank_choices(model: TransformerLM, scorer: Scorer, options: Options) -> list[Choice]:
    """How far the rank of every matrix can go down, one choice each."""
    factored = _factored(opened(model), scorer, options)
    stored = {(index, name): linear for index, name, linear in model.linears()}
    gates, places = [], []
    for index, name, linear in factored.linears():
        if name in options.matrices and isinstance(linear, LowRankLinear) and linear.rank:
            gates.append(_gate(index, name, linear))
            places.append((index, name))
    choices = []
    for place, gate, score in zip(places, gates, scorer.scores(factored, gates)):
        units = score.double().sum(0)
        chain, counts = _chain(gate, stored[place], units, options)
        make = pivoted_linear if options.form == "pivoted" else low_rank_linear
        choices.append(Choice(chain, partial(_keep_best, model, place, gate, units, counts, make)))
    return choices


def _keep_best(
    model: TransformerLM,
    place: Place,
    gate: Gate,
    scores: Tensor,
    counts: list[int],
    make: Callable[[Tensor, Tensor, Tensor], AnyLinear],
    level: int,
) -> None:
    linear = gate.linear
    assert isinstance(linear, LowRankLinear)
    kept = best(scores, counts[level])
    a, b = linear.A.detach()[:, kept], linear.B.detach()[kept]
    replace_linear(model, *place, make(a, b, linear.bias))


def opened(model: TransformerLM) -> TransformerLM:
    """The model with every pivoted matrix as two factors; the same object if there is none."""
    pivoted = [one for one in model.linears() if isinstance(one[2], PivotedLinear)]
    if not pivoted:
        return model
    opened = copy.deepcopy(model)
    for index, name, linear in pivoted:
        assert isinstance(linear, PivotedLinear)
        a, b = linear.factors()
        replace_linear(opened, index, name, low_rank_linear(a.detach(), b.detach(), linear.bias))
    return opened


def _factored(model: TransformerLM, scorer: Scorer, options: Options) -> TransformerLM:
    """A copy of the model in which every matrix to prune is a product of all its components."""
    factorise, needs = lookup(FACTORISATIONS, options.factorisation, "factorisation")
    places = [
        (index, name)
        for index, name, linear in model.linears()
        if name in options.matrices
        and 0 not in (linear.in_features, linear.out_features)
        and (isinstance(linear, DenseLinear) or (options.refactor and linear.rank > 0))
    ]
    known = _statistics(model, places, scorer, needs)
    factored = copy.deepcopy(model)
    for index, name, linear in model.linears():
        if (index, name) in known:
            a, b = factorise(whole(linear), known[index, name])
            if isinstance(linear, LowRankLinear):  # the product has no more components than this
                a, b = a[:, : linear.rank], b[: linear.rank]
            replace_linear(factored, index, name, low_rank_linear(a, b, linear.bias))
    return factored


def _statistics(
    model: TransformerLM, places: list[Place], scorer: Scorer, needs: frozenset[str]
) -> dict[Place, MatrixStatistics]:
    """Input and output statistics of whole matrices, whichever way they are stored."""
    linears = {(index, name): linear for index, name, linear in model.linears()}
    gates = []
    for place in places:
        linear = linears[place]
        key = matrix_key(*place)
        gates.append(Gate(key, linear, entry(linear), 1, 1, cost=1))
        if isinstance(linear, LowRankLinear):
            gates.append(Gate(key, linear, "A", 1, 1, cost=1))
    found = iter(scorer.statistics(model, gates, needs))
    known = {}
    for place in places:
        known[place] = next(found)
        if isinstance(linears[place], LowRankLinear):
            known[place].output_gram = next(found).output_gram
    return known


def _gate(index: int, name: str, linear: LowRankLinear) -> Gate:
    """The components as columns of A, each fed by its row of B."""
    height, _ = linear.A.shape
    feeding = linear.B.detach().square().sum(1)
    cost = linear.in_features + linear.out_features
    return Gate(matrix_key(index, name), linear, "A", max(height, 1), 1, cost, feeding)


def _chain(
    gate: Gate, linear: AnyLinear, scores: Tensor, options: Options
) -> tuple[Chain, list[int]]:
    """Levels from the matrix as stored down to the smallest rank."""
    before = stored_parameters(linear)
    units = len(scores)
    saving = [rank for rank in range(units + 1) if _stored(rank, gate, options) < before]
    most = max(saving, default=0)
    counts = kept_counts(units, most, options.min_rank, options.multiple_of)
    saved = [0, *(before - _stored(rank, gate, options) for rank in counts[1:])]
    return unit_chain(gate.key, scores, counts, saved), counts


def _stored(rank: int, gate: Gate, options: Options) -> int:
    """Parameters of a matrix of this rank in the form of ``options``."""
    return rank * (gate.cost - rank if options.form == "pivoted" else gate.cost)
