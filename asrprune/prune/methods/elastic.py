"""Elastic LMs: products and FFNs whose first components and neurons make every smaller size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Optional

import numpy as np
import torch

from asrprune.lm.model.elastic import Elastic
from asrprune.lm.model.matrices import DenseLinear, LowRankLinear
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.methods.combined import parts
from asrprune.prune.methods.low_rank import Components, components
from asrprune.prune.methods.method import Options, Scorer, prunable_parameters, unreachable
from asrprune.prune.methods.structured import UnitPlace, unit_places
from asrprune.prune.selection import Chain, choose_levels


@dataclass(frozen=True)
class _Nested:
    """What loses ``multiple_of`` units at a time from level ``first`` of ``chain`` on, each time
    ``cost`` weights of a dense matrix or of two factors. ``put(count)`` brings it to so many units,
    the best first; ``counts`` are those of the levels. ``biases`` of an FFN leave each time; None:
    a matrix of components."""

    place: Place
    chain: Chain
    counts: list[int]
    first: int
    cost: int
    put: Callable[[int], None]
    biases: Optional[int] = None


def elastic_low_rank(
    model: TransformerLM, sizes: Sequence[float], total: int, scorer: Scorer, options: Options
) -> Elastic:
    """Factor the model in place to the largest of ``sizes`` (sparsities counted of ``total``
    weights); the order in which components leave from there to the smallest.

    Low rank's choice for the smallest size says which matrices stay as they are. All others are
    products at every size: their components stand by falling score, and of all matrices those leave
    first that lose least score per weight, ``multiple_of`` of a matrix at a time. Raises ValueError
    for sizes that these do not reach.
    """
    found = [_product(model, one, options) for one in components(model, scorer, options)]
    return _elastic(model, found, sizes, total, options)


def elastic_low_rank_structured(
    model: TransformerLM, sizes: Sequence[float], total: int, scorer: Scorer, options: Options
) -> Elastic:
    """The same with products for the matrices of attention alone: FFNs stay dense, their neurons
    stand by falling score, and compete with the components by lost score per weight. Raises
    ValueError for an FFN whose matrices are products already, too."""
    attention, ffn = parts(model, options)
    for place, linear in model.linears():
        if place.name in ffn.matrices and not isinstance(linear, DenseLinear):
            raise ValueError(f"{place} is a product; expected an LM with dense FFNs")
    found = [_product(model, one, attention) for one in components(model, scorer, attention)]
    found += [_neurons(model, one, ffn) for one in unit_places(model, scorer, ffn)]
    return _elastic(model, found, sizes, total, options)


def _product(model: TransformerLM, one: Components, options: Options) -> _Nested:
    cost = options.multiple_of * one.group.cost
    put = partial(_put_product, model, one)
    return _Nested(one.group.place, one.chain, one.counts, 1, cost, put)


def _put_product(model: TransformerLM, one: Components, count: int) -> None:
    best = torch.argsort(one.scores, stable=True).flip(0)[:count]
    linear = one.group.linear
    assert isinstance(linear, LowRankLinear)
    a, b = linear.A.detach()[:, best], linear.B.detach()[best]
    model.put(one.group.place, LowRankLinear.from_factors(a, b, linear.bias))


def _neurons(model: TransformerLM, one: UnitPlace, options: Options) -> _Nested:
    makers = [one.block.linear(name) for name in one.coupling.makers]
    biases = options.multiple_of * sum(made.bias is not None for made in makers)
    cost = options.multiple_of * int(one.units.costs[0])
    first = int(one.counts[0] % options.multiple_of > 0)
    return _Nested(
        one.place, one.chain, one.counts, first, cost, partial(_put_neurons, model, one), biases
    )


def _put_neurons(model: TransformerLM, one: UnitPlace, count: int) -> None:
    best = one.units.order.flip(0)[:count]
    for name in one.coupling.makers:
        made = one.block.linear(name).keep_outputs(best)
        model.put(Place(one.place.block, name), made)
    model.put(one.place, one.block.linear(one.coupling.reader).keep_inputs(best))


def _elastic(
    model: TransformerLM,
    found: Sequence[_Nested],
    sizes: Sequence[float],
    total: int,
    options: Options,
) -> Elastic:
    """Bring the model to the largest size, and say in which order the rest leaves."""
    most, least = (total - round(size * total) for size in (min(sizes), max(sizes)))
    kept = sum(prunable_parameters(model, options.matrices).values())
    lowest = kept - sum(one.chain.saved[-1] for one in found)
    if least < lowest:
        raise unreachable(least, lowest)
    levels = choose_levels([one.chain for one in found], max(kept - least, 0))
    found = [one for one, level in zip(found, levels) if level]
    kept -= sum(one.chain.saved[one.first] for one in found)
    if most > kept:
        raise ValueError(
            f"sparsity {min(sizes):g} is below what the elastic schedule begins at, as products of "
            f"all matrices to be cut remove {1 - kept / total:.4f}; expected that or more"
        )
    order, saved = _order(found)
    left = kept - np.concatenate([[0], np.cumsum(saved)])
    first, last = (int(np.abs(left - keep).argmin()) for keep in (most, least))
    counts = {}
    for number, one in enumerate(found):
        counts[one.place] = one.counts[one.first] - options.multiple_of * order[:first].count(
            number
        )
        one.put(counts[one.place])
    ranks = {one.place: counts[one.place] for one in found if one.biases is None}
    return Elastic(
        sizes=tuple(sorted(sizes)),
        prunable=total,
        kept=int(left[first]),
        multiple=options.multiple_of,
        costs={str(one.place): one.cost for one in found},
        order=" ".join(map(str, order[first:last])),
        neurons={str(one.place): one.biases for one in found if one.biases is not None},
        **(_pivoted(model, ranks) if options.form == "interpolative" else {}),
    )


def _pivoted(model: TransformerLM, ranks: dict[Place, int]) -> dict[str, Any]:
    """What an Elastic has to know of matrices whose cuts are interpolative decompositions."""
    rows = sum(linear.out_features for place, linear in model.linears() if place in ranks)
    return {"pivoted": {str(place): rank for place, rank in ranks.items()}, "rows": rows}


def _order(found: Sequence[_Nested]) -> tuple[list[int], list[int]]:
    """Which matrix loses units at each step from the first levels on, and the weights that this
    saves: by rising lost score per weight, ties to the first matrix. Units that save little before
    others that save much leave with these, one after the other."""
    steps, gains = [], []
    for number, one in enumerate(found):
        losses, saved = (
            np.array(values[one.first :]) for values in (one.chain.loss, one.chain.saved)
        )
        rest = Chain(one.chain.name, tuple(saved - saved[0]), tuple(losses - losses[0]))
        gains.append(np.diff(saved).tolist())
        for rate, low, high in rest.segments():
            steps += [(rate, number, level) for level in range(low, high)]
    steps.sort()
    return [number for _, number, _ in steps], [gains[number][level] for _, number, level in steps]
