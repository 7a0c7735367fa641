"""N:M: of every M neighbouring weights along the input, N become zero."""

from __future__ import annotations

import math

import torch

from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.masks import Masks
from asrprune.prune.methods.method import Options, Scorer, unreachable
from asrprune.prune.methods.repair import put_masks
from asrprune.prune.methods.unstructured import element_gates
from asrprune.prune.selection import lowest


def two_of_four(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks
) -> None:
    """Zero 2 weights in as many groups of 4 as leave ``keep`` weights; sparsity 0.5 at most."""
    _zero_in_groups(model, keep, scorer, options, masks, zeros=2, group=4)


def four_of_eight(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks
) -> None:
    """Zero 4 weights in as many groups of 8 as leave ``keep`` weights; sparsity 0.5 at most."""
    _zero_in_groups(model, keep, scorer, options, masks, zeros=4, group=8)


def _zero_in_groups(
    model: TransformerLM,
    keep: int,
    scorer: Scorer,
    options: Options,
    masks: Masks,
    zeros: int,
    group: int,
) -> None:
    """The groups whose ``zeros`` lowest scores sum to least lose those weights, all together.

    A group is whole or has the full pattern, so the steps of a schedule fill groups one by one.
    Raises ValueError for inputs that are not a multiple of ``group``.
    """
    gates = element_gates(model, options, rows=1)
    total = sum(gate.matrix.numel() for gate in gates)
    count = round((total - keep) / zeros)
    if not 0 <= count <= total // group:
        raise unreachable(keep, total - total // group * zeros)
    patterns, losses = [], []
    for gate, score in zip(gates, scorer.scores(model, gates)):
        width = score.shape[1]
        if width % group:
            raise ValueError(f"{gate.key} has {width} inputs; expected a multiple of {group}")
        gone = ~masks[gate.key] if gate.key in masks else torch.zeros_like(score).bool()
        grouped = score.masked_fill(gone, -math.inf).reshape(-1, group)
        order = torch.argsort(grouped, dim=1, stable=True)[:, :zeros]
        patterns.append(torch.zeros_like(grouped, dtype=torch.bool).scatter_(1, order, True))
        losses.append(grouped.gather(1, order).sum(1))  # -inf where the group is done
    chosen = torch.split(lowest(torch.cat(losses), count), [len(loss) for loss in losses])
    for gate, pattern, picked in zip(gates, patterns, chosen):
        masks[gate.key] = ~(pattern & picked[:, None]).view(gate.matrix.shape)
    put_masks(model, gates, masks, scorer, options.repair)
