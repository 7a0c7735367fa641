"""N:M: of every M neighbouring weights along the input, N become zero."""

from __future__ import annotations

import math

import torch

from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.masks import Masks
from asrprune.prune.methods.compensation import put_masks
from asrprune.prune.methods.method import Options, Scorer, unreachable
from asrprune.prune.methods.unstructured import element_groups
from asrprune.prune.selection import lowest


def two_of_four(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks
) -> None:
    """Zero 2 weights in as many groups of 4 as leave ``keep`` weights; sparsity 0.5 at most."""
    _zero_in_groups(model, keep, scorer, options, masks, zeros=2, of=4)


def four_of_eight(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks
) -> None:
    """Zero 4 weights in as many groups of 8 as leave ``keep`` weights; sparsity 0.5 at most."""
    _zero_in_groups(model, keep, scorer, options, masks, zeros=4, of=8)


def _zero_in_groups(
    model: TransformerLM,
    keep: int,
    scorer: Scorer,
    options: Options,
    masks: Masks,
    zeros: int,
    of: int,
) -> None:
    """The groups whose ``zeros`` lowest scores sum to least lose those weights, all together.

    A group is whole or has the full pattern, so the steps of a schedule fill groups one by one.
    Raises ValueError for inputs that are not a multiple of ``of``.
    """
    groups = element_groups(model, options, rows=1)
    total = sum(group.matrix.numel() for group in groups)
    count = round((total - keep) / zeros)
    if not 0 <= count <= total // of:
        raise unreachable(keep, total - total // of * zeros)
    patterns, losses = [], []
    for group, score in zip(groups, scorer.scores(model, groups)):
        width = score.shape[1]
        if width % of:
            raise ValueError(f"{group.place} has {width} inputs; expected a multiple of {of}")
        gone = ~masks[group.place] if group.place in masks else torch.zeros_like(score).bool()
        grouped = score.masked_fill(gone, -math.inf).reshape(-1, of)
        order = torch.argsort(grouped, dim=1, stable=True)[:, :zeros]
        patterns.append(torch.zeros_like(grouped, dtype=torch.bool).scatter_(1, order, True))
        losses.append(grouped.gather(1, order).sum(1))  # -inf where the group is done
    chosen = torch.split(lowest(torch.cat(losses), count), [len(loss) for loss in losses])
    for group, pattern, picked in zip(groups, patterns, chosen):
        masks[group.place] = ~(pattern & picked[:, None]).view(group.matrix.shape)
    put_masks(model, groups, masks, scorer, options.compensation)
