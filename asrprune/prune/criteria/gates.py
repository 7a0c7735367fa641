"""Gates: what closes last under a growing l1 penalty is worth most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import Batch
from asrprune.lm.training.loss import next_token_loss
from asrprune.prune.criteria.criterion import Sample
from asrprune.prune.groups import Group
from asrprune.prune.statistics import collect, gradients_of

STEPS = 64
"""Steps of the path at least, each with other text while there is some."""
RATE = 0.25
"""The largest step by the penalty, of the way from open to closed."""
AVERAGED = 0.9
"""What the average of a gate's gradient keeps of its past."""
MARGIN = 10.0
"""Times how far the penalty begins below, and ends above, those at which all gates but a hundredth
should close."""


def gates(model: TransformerLM, groups: Sequence[Group], sample: Sample) -> list[Tensor]:
    """The penalty per parameter at which a tile's gate closes, times the parameters that it saves:
    nats per token.

    Each tile is multiplied by a gate z, 1 at first. The gates, not the weights, are trained on the
    mean loss plus ``penalty * sum of cost * z``, and the penalty grows from step to step until all
    of them are closed (z = 0). One that the loss wants back opens again; what counts is when it
    closes last. Steps are scaled by each gate's curvature, for which the Fisher matrix's diagonal
    stands. STEPS batches are read at least, whatever ``sample.max_tokens`` says.

    Source: Genzel et al. 2025 (ACIP, arXiv 2502.01717) orders singular values by such a path; there
    gates are open or shut in the forward pass, all cost the same, and adapters learn with them.
    """
    if not groups:
        return []
    curvatures = _curvatures(model, groups, sample)
    costs = [max(group.cost, 1) for group in groups]
    closing = torch.cat([one.flatten() / cost for one, cost in zip(curvatures, costs)])
    closing = closing[closing > 0]
    if not len(closing):  # no tile, or none that anything depends on
        return [torch.zeros_like(one) for one in curvatures]
    ends = [closing.kthvalue(max(1, round(share * len(closing)))).values for share in (0.01, 0.99)]
    low, high = float(ends[0]) / MARGIN, float(ends[1]) * MARGIN
    batches = _read(model, sample)
    paths = [_Path(*one) for one in zip(groups, curvatures, costs)]
    steps = max(STEPS, len(batches))
    with gradients_of(model, [group.matrix for group in groups]), _restored(paths):
        for step in range(steps):
            for path in paths:
                path.write()
            batch = batches[step % len(batches)]
            model.zero_grad(set_to_none=True)
            loss = next_token_loss(model, batch) / max(batch.n_targets, 1)
            loss.backward()  # type: ignore[no-untyped-call]
            for path in paths:
                path.step(low * (high / low) ** (step / (steps - 1)))
    return [path.scores() for path in paths]


def _read(model: TransformerLM, sample: Sample) -> list[Batch]:
    """The batches of the path; all processes take the same steps."""
    read: list[Batch] = []
    seen = 0
    for batch in sample.batches(model):
        if len(read) >= STEPS and seen >= sample.max_tokens:
            break
        read.append(batch)
        seen += batch.n_targets
    return read


def _curvatures(model: TransformerLM, groups: Sequence[Group], sample: Sample) -> list[Tensor]:
    """Second derivatives of the loss per token by the gates, where all are 1: of the Fisher
    matrix's diagonal, over each group's tiles."""
    name = "tile_gradient_squared"
    found = collect(
        model,
        groups,
        sample.batches(model),
        frozenset({name}),
        sample.max_tokens,
        sample.processes,
    )
    return [one.need(name) for one in found]


class _Path:
    """The gates of one group on their way from 1 to 0."""

    def __init__(self, group: Group, curvature: Tensor, cost: int) -> None:
        self.group = group
        self.cost = cost
        self.curvature = curvature
        self.weights = group.matrix.detach().clone()
        self.gate = torch.ones_like(curvature)
        self.gradient = torch.zeros_like(curvature)
        self.closed_at = torch.zeros_like(curvature)  # the penalty; 0 before it closed
        self.penalty = 0.0
        self.done = 0

    def write(self) -> None:
        """Put the gated weights into the model."""
        spread = self.gate.repeat_interleave(self.group.rows, 0)
        spread = spread.repeat_interleave(self.group.columns, 1)
        with torch.no_grad():
            self.group.matrix.copy_(self.weights * spread)

    def step(self, penalty: float) -> None:
        """Move the gates, from the gradient that the group's matrix has now."""
        gradient = self.group.matrix.grad
        slope = torch.zeros_like(self.gate)
        if gradient is not None:
            slope = self.group.tile_sum(self.weights * gradient)
        self.gradient.lerp_(slope, 1.0 - AVERAGED)
        self.done += 1
        mean = self.gradient / (1.0 - AVERAGED**self.done)
        pull = penalty * self.cost
        before = self.gate
        after = before - RATE * (mean + pull) / (self.curvature + pull)
        crossed = (before > 0) & (after <= 0)
        share = torch.where(crossed, before / (before - after).clamp(min=1e-30), 0.0)
        last = self.penalty or penalty
        self.closed_at = torch.where(crossed, last * (penalty / last) ** share, self.closed_at)
        self.gate = after.clamp(0.0, 1.0)
        self.penalty = penalty

    def scores(self) -> Tensor:
        """Of the tiles; what is open at the end counts as if it closed later."""
        penalties = torch.where(self.gate > 0, self.penalty * (1.0 + self.gate), self.closed_at)
        return self.cost * penalties


@contextmanager
def _restored(paths: Sequence[_Path]) -> Iterator[None]:
    """The weights are at the end what they were."""
    try:
        yield
    finally:
        with torch.no_grad():
            for path in paths:
                path.group.matrix.copy_(path.weights)
