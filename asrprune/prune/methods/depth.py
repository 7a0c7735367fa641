"""Depth: the attention or the FFN of a block leaves whole, or both together."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from asrprune.lm.model.anatomy import Block, Coupling
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.groups import Group
from asrprune.prune.masks import Masks
from asrprune.prune.methods.choices import Choice, refuse_masks, shrink
from asrprune.prune.methods.method import Options, Scorer
from asrprune.prune.methods.structured import no_whole_unit, unit_groups
from asrprune.prune.selection import Chain
from asrprune.prune.surgery.units import count_units, keep_units, unit_cost

_Sublayer = tuple[Block, Coupling, Group]


def depth(model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks) -> None:
    """Remove whole sublayers, or with ``depth_unit`` block whole blocks, of least score.

    A sublayer's score is that of its output matrix as one tile. What is left of a removed
    sublayer is its output bias, if it has one; the residual stream passes by. Units leave one by
    one, so the size may be missed by up to half of the next unit. ``min_heads`` and ``min_width``
    do not apply. Raises ValueError when no sublayer is to prune, and for a masked model.

    Source: Fan et al. 2020 (LayerDrop, arXiv 1909.11556) for blocks as the units.
    """
    refuse_masks(masks)
    found = unit_groups(model, options)
    if not found:
        raise no_whole_unit(model.anatomy, options)
    sublayers = [
        (
            block,
            coupling,
            replace(group, columns=group.matrix.shape[1], cost=_cost(block, coupling)),
        )
        for block, coupling, group in found
        if group.matrix.shape[1]
    ]
    scores = scorer.scores(model, [group for *_, group in sublayers])
    shrink(model, keep, _choices(sublayers, scores, options.depth_unit), scorer, options)


def _cost(block: Block, coupling: Coupling) -> int:
    """Weights that leave with all units (a factored matrix keeps a factor)."""
    own, shared = unit_cost(block, coupling)
    return own * count_units(block, coupling) + shared * block.attn.kv_heads


def _choices(sublayers: list[_Sublayer], scores: list[Tensor], unit: str) -> list[Choice]:
    """One choice of two levels, there or gone, for every sublayer or block."""
    units: dict[str, list[tuple[_Sublayer, float]]] = {}
    for sublayer, score in zip(sublayers, scores):
        place = sublayer[2].place
        name = str(place.block) if unit == "block" else str(place)
        units.setdefault(name, []).append((sublayer, float(score.double().sum())))
    choices = []
    for name, parts in units.items():
        saved = sum(group.cost for (*_, group), _ in parts)
        chain = Chain(name, (0, saved), (0.0, sum(score for _, score in parts)))
        choices.append(Choice(chain, partial(_remove, [sublayer for sublayer, _ in parts])))
    return choices


def _remove(sublayers: list[_Sublayer], level: int) -> None:
    for block, coupling, group in sublayers:
        keep_units(block, coupling, torch.arange(0, device=group.matrix.device))
