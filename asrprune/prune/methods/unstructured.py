"""Unstructured: the weights (or blocks of them) with the lowest scores become zero."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from asrprune.lm.model.matrices import DenseLinear
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.groups import Group
from asrprune.prune.masks import Masks
from asrprune.prune.methods.compensation import put_masks
from asrprune.prune.methods.method import Options, Scorer, unreachable
from asrprune.prune.selection import lowest, nearest_count


def unstructured(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks
) -> None:
    """Leave exactly ``keep`` weights, the rest zero; a tie goes to the earlier weight."""
    _mask_tiles(model, keep, scorer, options, masks, rows=1)


def block_4x1(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks
) -> None:
    """Leave ``keep`` weights (to the nearest 4) in blocks of 4 neighbouring outputs of one input;
    zeros that single weights of a block have already stay.

    That is the shape that CPU kernels can use. Raises ValueError for a matrix whose number of
    outputs is not a multiple of 4.
    """
    _mask_tiles(model, keep, scorer, options, masks, rows=4)


def block_16x1(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks
) -> None:
    """The same with blocks of 16 outputs: a whole vector register of weights."""
    _mask_tiles(model, keep, scorer, options, masks, rows=16)


def element_groups(model: TransformerLM, options: Options, rows: int) -> list[Group]:
    """One group of ``rows`` x 1 tiles per dense matrix to prune.

    Raises ValueError for a low-rank matrix: masks are for dense ones.
    """
    groups = []
    for place, linear in model.linears():
        if place.name not in options.matrices:
            continue
        if not isinstance(linear, DenseLinear):
            raise ValueError(f"matrix {place} is low rank; masks need dense matrices")
        groups.append(Group(place, linear, "weight", rows, 1, cost=rows))
    return groups


def _mask_tiles(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks, rows: int
) -> None:
    groups = element_groups(model, options, rows)
    scores = scorer.scores(model, groups)
    tiles = sum(score.numel() for score in scores)
    left = [group.tile_sum(kept_before(group, masks).float()) for group in groups]
    removed = [counts == 0 for counts in left]
    scores = [score.masked_fill(gone, -math.inf) for score, gone in zip(scores, removed)]

    def without(count: int) -> list[Tensor]:
        if options.scope == "global":
            return _global(scores, removed, count, options)
        if options.scope == "matrix":
            return _each(scores, count)
        picked = _each([row for score in scores for row in score], count)
        flat = torch.split(torch.cat(picked), [score.numel() for score in scores])
        return [part.view(score.shape) for part, score in zip(flat, scores)]

    def kept(count: int) -> int:
        return sum(int(one[~gone].sum()) for one, gone in zip(left, without(count)))

    remove = tiles - round(keep / rows)
    if any(((counts > 0) & (counts < rows)).any() for counts in left):  # unlike numbers of weights
        remove = nearest_count(
            kept, keep, range(sum(int(gone.sum()) for gone in removed), tiles + 1)
        )
    for group, gone in zip(groups, without(remove)):
        whole = ~gone.repeat_interleave(rows, dim=0)
        masks[group.place] = whole & kept_before(group, masks)
    put_masks(model, groups, masks, scorer, options.compensation)


def kept_before(group: Group, masks: Masks) -> Tensor:
    """The mask that the group's matrix has, of nothing but True without one."""
    mask = masks.get(group.place)
    return torch.ones_like(group.matrix, dtype=torch.bool) if mask is None else mask


def _global(
    scores: list[Tensor], removed: list[Tensor], remove: int, options: Options
) -> list[Tensor]:
    """Rank all tiles together, holding back the best share of each matrix below sparsity 1."""
    total = sum(score.numel() for score in scores)
    if not 0 <= remove <= total:
        raise unreachable(total - remove, 0)
    share = min(options.min_share, (total - remove) / max(total, 1))
    counts = [math.ceil(share * score.numel()) for score in scores]
    if sum(counts) > total - remove:
        counts = [math.floor(share * score.numel()) for score in scores]
    held = []
    for score, gone, most in zip(scores, removed, counts):
        count = min(most, int((~gone).sum()))
        best = ~lowest(score, score.numel() - count)
        held.append(score.masked_fill(best, math.inf).flatten())
    chosen = torch.split(lowest(torch.cat(held), remove), [score.numel() for score in scores])
    return [part.view(score.shape) for part, score in zip(chosen, scores)]


def _each(scores: list[Tensor], remove: int) -> list[Tensor]:
    """The same share of every tensor, but no less than has left it already (scores of -inf); the
    total is exact (largest remainders get one more)."""
    sizes = [score.numel() for score in scores]
    gone = [int(torch.isneginf(score).sum()) for score in scores]
    total, before = sum(sizes), sum(gone)
    if not before <= remove <= total:
        raise unreachable(total - remove, 0 if remove > total else total - before)
    counts = _even_counts(sizes, gone, remove)
    return [lowest(score, count) for score, count in zip(scores, counts)]


def _even_counts(sizes: list[int], least: list[int], total: int) -> list[int]:
    """Counts that add up to ``total``: each at least its ``least``, and all that are above it the
    same share of their sizes, rounded down; the largest remainders, else the first, get one more.

    >>> _even_counts([10, 10, 20], [0, 7, 0], 16)
    [3, 7, 6]
    """
    counts, free, left = list(least), list(range(len(sizes))), total
    while True:  # those that are above the share already have no part in what is left
        whole = sum(sizes[i] for i in free)
        above = {i for i in free if least[i] * whole > left * sizes[i]}
        if not above:
            break
        left -= sum(least[i] for i in above)
        free = [i for i in free if i not in above]
    for i in free:
        counts[i] = left * sizes[i] // max(whole, 1)
    order = sorted(free, key=lambda i: -(left * sizes[i] % max(whole, 1)))
    for i in order[: total - sum(counts)]:
        counts[i] += 1
    return counts
