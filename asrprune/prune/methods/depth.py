"""Depth: the attention or the FFN of a block leaves whole, or both together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from asrprune.lm.model.shapes import ATTENTION_LINEARS, FFN_LINEARS
from asrprune.lm.model.transformer import Block, TransformerLM
from asrprune.prune.gates import Gate
from asrprune.prune.masks import Masks
from asrprune.prune.methods.choices import Choice, refuse_masks, shrink
from asrprune.prune.methods.method import Options, Scorer
from asrprune.prune.methods.structured import group_gates
from asrprune.prune.selection import Chain
from asrprune.prune.surgery.compaction import keep_heads, keep_neurons


def depth(model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks) -> None:
    """Remove whole sublayers, or with ``depth_unit`` block whole blocks, of least score.

    A sublayer's score is that of its output matrix as one tile. What is left of a removed
    sublayer is its output bias; the residual stream passes by. Units leave one by one, so
    the size may be missed by up to half of the next unit. ``min_heads`` and ``min_width`` do not
    apply. Raises ValueError when no sublayer is to prune, and for a masked model.

    Source: Fan et al. 2020 (LayerDrop, arXiv 1909.11556) for blocks as the units.
    """
    refuse_masks(masks)
    gates = [
        replace(gate, columns=width, cost=gate.cost * (width // gate.columns))
        for gate in group_gates(model, options)
        for width in [gate.matrix.shape[1]]
        if width
    ]
    if not gates and set(options.matrices) < {*ATTENTION_LINEARS, *FFN_LINEARS}:
        raise ValueError(
            f"matrices {', '.join(options.matrices)} hold no whole sublayer; expected both of "
            f"{', '.join(FFN_LINEARS)} or all of {', '.join(ATTENTION_LINEARS)}"
        )
    scores = scorer.scores(model, gates)
    shrink(model, keep, _choices(model, gates, scores, options.depth_unit), options)


def _choices(
    model: TransformerLM, gates: Sequence[Gate], scores: Sequence[Tensor], unit: str
) -> list[Choice]:
    """One choice of two levels, there or gone, for every sublayer or block."""
    groups: dict[str, list[tuple[Gate, float]]] = {}
    for gate, score in zip(gates, scores):
        name = gate.key.partition(".")[0] if unit == "block" else gate.key
        groups.setdefault(name, []).append((gate, float(score.double().sum())))
    choices = []
    for name, group in groups.items():
        saved = sum(gate.cost for gate, _ in group)
        chain = Chain(name, (0, saved), (0.0, sum(score for _, score in group)))
        choices.append(Choice(chain, partial(_remove, model, [gate.key for gate, _ in group])))
    return choices


def _remove(model: TransformerLM, keys: Sequence[str], level: int) -> None:
    nothing = torch.arange(0, device=model.positions.device)
    for key in keys:
        index, _, name = key.partition(".")
        block = model.blocks[int(index)]
        assert isinstance(block, Block)
        if name == "ffn.down":
            keep_neurons(block, nothing)
        else:
            keep_heads(block, nothing)
