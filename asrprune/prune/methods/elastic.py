"""Elastic low rank: every matrix a product whose first components make every smaller size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from asrprune.lm.model.elastic import Elastic
from asrprune.lm.model.matrices import LowRankLinear
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.methods.low_rank import components
from asrprune.prune.methods.method import Options, Scorer, prunable_parameters, unreachable
from asrprune.prune.selection import Chain, choose_levels


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
    order, saved = _order([one.chain for one in found])
    left = kept - np.concatenate([[0], np.cumsum(saved)])
    first, last = (int(np.abs(left - keep).argmin()) for keep in (most, least))
    ranks = {}
    for number, one in enumerate(found):
        rank = one.counts[1] - options.multiple_of * order[:first].count(number)
        best = torch.argsort(one.scores, stable=True).flip(0)[:rank]
        linear = one.group.linear
        assert isinstance(linear, LowRankLinear)
        a, b = linear.A.detach()[:, best], linear.B.detach()[best]
        model.put(one.group.place, LowRankLinear.from_factors(a, b, linear.bias))
        ranks[one.group.place] = rank
    return Elastic(
        sizes=tuple(sorted(sizes)),
        prunable=total,
        kept=int(left[first]),
        multiple=options.multiple_of,
        costs={str(one.group.place): options.multiple_of * one.group.cost for one in found},
        order=" ".join(map(str, order[first:last])),
        **(_pivoted(model, ranks) if options.form == "interpolative" else {}),
    )


def _pivoted(model: TransformerLM, ranks: dict[Place, int]) -> dict[str, Any]:
    """What an Elastic has to know of matrices whose cuts are interpolative decompositions."""
    rows = sum(linear.out_features for place, linear in model.linears() if place in ranks)
    return {"pivoted": {str(place): rank for place, rank in ranks.items()}, "rows": rows}


def _order(chains: Sequence[Chain]) -> tuple[list[int], list[int]]:
    """Which matrix loses components at each step from level 1 of all chains on, and the weights
    that this saves: by rising lost score per weight, ties to the first matrix. Components that
    save little before others that save much leave with these, one after the other."""
    steps = []
    for number, chain in enumerate(chains):
        losses, saved = np.array(chain.loss[1:]), np.array(chain.saved[1:])
        rest = Chain(chain.name, tuple(saved - saved[0]), tuple(losses - losses[0]))
        for rate, low, high in rest.segments():
            steps += [(rate, number, level) for level in range(low, high)]
    steps.sort()
    gains = [np.diff(chain.saved[1:]).tolist() for chain in chains]
    return [number for _, number, _ in steps], [gains[number][level] for _, number, level in steps]
