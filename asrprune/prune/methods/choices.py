"""Places that can shrink, and the one selection over all of them that meets a size."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable

import torch
from torch import Tensor

from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.masks import Masks, matrices_are_masked
from asrprune.prune.methods.anchored import ANCHORED, anchored
from asrprune.prune.methods.method import Options, Scorer, prunable_parameters, unreachable
from asrprune.prune.selection import Chain, choose_levels

SLACK = 1 / 2000
"""Share of the kept parameters by which a size may be missed to lose less."""


@dataclass(frozen=True)
class Choice:
    """A place that can shrink: the levels that it offers, and how to put one into effect."""

    chain: Chain
    apply: Callable[[int], None]


def shrink(
    model: TransformerLM, keep: int, choices: Sequence[Choice], scorer: Scorer, options: Options
) -> None:
    """Put those levels into effect that leave ``keep`` prunable parameters at least lost score, and
    fit what is left where ``options.compensation`` says so.

    Raises ValueError when all choices together cannot go so low.
    """
    before = copy.deepcopy(model) if options.compensation == ANCHORED else None
    total = sum(prunable_parameters(model, options.matrices).values())
    least = total - sum(choice.chain.saved[-1] for choice in choices)
    if keep < least:
        raise unreachable(keep, least)
    chains = [choice.chain for choice in choices]
    levels = choose_levels(chains, max(total - keep, 0), round(keep * SLACK))
    for choice, level in zip(choices, levels):
        if level:
            choice.apply(level)
    if before is not None:
        anchored(before, model, scorer, options)


def refuse_masks(masks: Masks) -> None:
    """Raises ValueError for masked matrices: what shrinks must not hold zeros to be kept."""
    if matrices_are_masked(masks):
        raise ValueError("the model is masked; matrices become smaller only in an unmasked one")


def best(scores: Tensor, count: int) -> Tensor:
    """Ascending indices of the ``count`` highest scores; of equal ones the later are taken.

    Taking away the lowest with stable ties and keeping these is the same split.
    """
    return torch.argsort(scores, stable=True)[len(scores) - count :].sort().values


def unit_chain(name: str, scores: Tensor, kept: Sequence[int], saved: Sequence[int]) -> Chain:
    """Levels that keep ``kept`` units each (falling) and save ``saved`` parameters; ``scores`` [n]
    are those of the units in the order in which they leave."""
    lost = torch.cat([scores.new_zeros(1), scores.cumsum(0)])  # [n + 1]
    return Chain(name, tuple(saved), tuple(float(lost[len(scores) - count]) for count in kept))


def kept_counts(now: int, most: int, least: int, multiple: int) -> list[int]:
    """``now``, then the multiples of ``multiple`` from ``most`` down to ``least``.

    >>> kept_counts(20, 19, 8, 8)
    [20, 16, 8]
    """
    top = most // multiple * multiple
    return [now, *(count for count in range(top, -1, -multiple) if least <= count < now)]
