"""The table of learned positions in fewer bytes: with zeros."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

import torch
from torch import Tensor

from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED, Batch
from asrprune.lm.training.distributed import ProcessGroup
from asrprune.prune.selection import lowest
from asrprune.prune.statistics import own_batches


def positions_mask(
    model: TransformerLM,
    sparsity: float,
    batches: Iterable[Batch],
    max_tokens: int,
    processes: Optional[ProcessGroup] = None,
) -> Tensor:
    """Which weights of the learned positions [T, D] stay (True) when the share ``sparsity`` leaves.

    Those with the largest ``w_td^2 c(t)`` stay: each weight's own part in the squared change of
    what the first block reads. c(t) counts the tokens at position t in the first ``max_tokens``
    (whole batches) of ``batches``, which ``processes`` share out, and one more: few sentences are
    long, so that most of the table is hardly ever read.

    Raises ValueError when the LM has no learned positions.
    """
    check_learned(model)
    processes = ProcessGroup(device=model.device) if processes is None else processes
    assert model.positions is not None
    counts = torch.ones(model.max_positions, dtype=torch.float64, device=model.device)
    seen = torch.zeros_like(counts)
    for batch in own_batches(batches, max_tokens, processes):
        seen[: batch.targets.shape[1]] += (batch.targets != IGNORED).sum(0)
    processes.add_up([seen])
    scores = model.positions.detach().double().square() * (counts + seen)[:, None]
    return ~lowest(scores, round(sparsity * scores.numel()))


def check_learned(model: TransformerLM) -> None:
    """Raises ValueError when the LM has no learned positions."""
    if model.positions is None:
        raise ValueError("positions_sparsity is given; expected 0: the LM learned no positions")
