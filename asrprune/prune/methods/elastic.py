"""Elastic low rank: every matrix a product whose first components make every smaller size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from asrprune.lm.model.elastic import Elastic
from asrprune.lm.model.matrices import LowRankLinear
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.methods.low_rank import Components, components
from asrprune.prune.methods.method import Options, Scorer, prunable_parameters, unreachable
from asrprune.prune.selection import choose_levels


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
    most, least = (total - round(size * total) for size in (min(sizes), max(sizes)))
    found = components(model, scorer, options)
    kept = sum(prunable_parameters(model, options.matrices).values())
    lowest = kept - sum(one.chain.saved[-1] for one in found)
    if least < lowest:
        raise unreachable(least, lowest)
    levels = choose_levels([one.chain for one in found], max(kept - least, 0))
    found = [one for one, level in zip(found, levels) if level]
    kept -= sum(one.chain.saved[1] for one in found)
    if most > kept:
        raise ValueError(
            f"sparsity {min(sizes):g} is below what the elastic schedule begins at, as products of "
            f"all matrices to be cut remove {1 - kept / total:.4f}; expected that or more"
        )
    costs = [options.multiple_of * one.group.cost for one in found]
    order = _order(found, costs)
    left = kept - np.concatenate([[0], np.cumsum([costs[number] for number in order])])
    first, last = (int(np.abs(left - keep).argmin()) for keep in (most, least))
    for number, one in enumerate(found):
        rank = one.counts[1] - options.multiple_of * order[:first].count(number)
        best = torch.argsort(one.scores, stable=True).flip(0)[:rank]
        linear = one.group.linear
        assert isinstance(linear, LowRankLinear)
        a, b = linear.A.detach()[:, best], linear.B.detach()[best]
        model.put(one.group.place, LowRankLinear.from_factors(a, b, linear.bias))
    return Elastic(
        sizes=tuple(sorted(sizes)),
        prunable=total,
        kept=int(left[first]),
        multiple=options.multiple_of,
        costs={str(one.group.place): cost for one, cost in zip(found, costs)},
        order=" ".join(map(str, order[first:last])),
    )


def _order(found: Sequence[Components], costs: Sequence[int]) -> list[int]:
    """Which matrix loses components at each step from level 1 of all chains on: their numbers, by
    rising lost score per weight, ties to the first matrix."""
    steps = []
    for number, (one, cost) in enumerate(zip(found, costs)):
        rates = np.maximum.accumulate(np.diff(one.chain.loss[1:]) / cost)  # rising but for rounding
        steps += [(float(rate), number) for rate in rates]
    return [number for _, number in sorted(steps)]
