"""N:M: of every M neighbouring weights along the input, N become zero."""

from __future__ import annotations

import math

import torch

from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.masks import Masks
from asrprune.prune.methods.compensation import put_masks
from asrprune.prune.methods.method import Options, Scorer, unreachable
from asrprune.prune.methods.unstructured import element_groups, kept_before
from asrprune.prune.selection import lowest, nearest_count


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

    A group is whole or has the full pattern, so the steps of a schedule fill groups one by one;
    zeros of another pattern that were there before stay, and are part of a group's own. Raises
    ValueError for inputs that are not a multiple of ``of``.
    """
    groups = element_groups(model, options, rows=1)
    patterns, losses, costs, before = [], [], [], 0
    for group, score in zip(groups, scorer.scores(model, groups)):
        width = score.shape[1]
        if width % of:
            raise ValueError(f"{group.place} has {width} inputs; expected a multiple of {of}")
        kept = kept_before(group, masks).reshape(-1, of)
        grouped = score.reshape(-1, of).masked_fill(~kept, -math.inf)
        order = torch.argsort(grouped, dim=1, stable=True)[:, :zeros]
        lost, cost = grouped.gather(1, order), kept.gather(1, order).sum(1)
        patterns.append(torch.zeros_like(kept).scatter_(1, order, True))
        loss = lost.masked_fill(torch.isneginf(lost), 0.0).sum(1)
        losses.append(loss.masked_fill(cost == 0, -math.inf))  # the group is done
        costs.append(cost)
        before += int(kept.sum())
    all_losses, all_costs = torch.cat(losses), torch.cat(costs)
    done, most = int((all_costs == 0).sum()), before - int(all_costs.sum())
    if not most - zeros / 2 <= keep <= sum(group.matrix.numel() for group in groups):
        raise unreachable(keep, most)
    left = before - all_costs[torch.argsort(all_losses, stable=True)].cumsum(0)

    def kept_after(count: int) -> int:
        return int(left[count - 1]) if count else before

    count = nearest_count(kept_after, keep, range(done, len(left) + 1))
    chosen = torch.split(lowest(all_losses, count), [len(loss) for loss in losses])
    for group, pattern, picked in zip(groups, patterns, chosen):
        gone = (pattern & picked[:, None]).view(group.matrix.shape)
        masks[group.place] = kept_before(group, masks) & ~gone
    put_masks(model, groups, masks, scorer, options.compensation)
