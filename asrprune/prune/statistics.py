"""What the data says about a matrix, streamed by hooks with memory independent of the sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Optional

import torch
from torch import Tensor

from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED, Batch
from asrprune.lm.training.distributed import ProcessGroup
from asrprune.lm.training.loss import next_token_loss
from asrprune.prune.groups import Group

GRADIENT_STATISTICS = frozenset(
    {"gradient", "gradient_squared", "tile_gradient_squared", "output_gram", "movement"}
)
STATISTICS = GRADIENT_STATISTICS | {"input_squared", "gram"}


@dataclass
class MatrixStatistics:
    """Means over tokens for one group; what was not asked for is None.

    With L the loss summed over the tokens of a batch, W the group's matrix, x its input and
    g = dL/dy at its output, N tokens in all:

    - ``gradient`` [out, in]: sum over batches of dL/dW, over N: the gradient of the mean loss;
    - ``gradient_squared`` [out, in]: sum over batches of (dL/dW)^2, over N. Tokens count as
      independent, so this estimates E[g^2] per token whatever the batch size;
    - ``tile_gradient_squared`` [tiles]: the same for the sum of W * dL/dW over each tile;
    - ``movement`` [out, in]: the sum over batches of -W * dL/dW, over N;
    - ``input_squared`` [in]: E[x^2]; ``gram`` [in, in]: E[x x^T]; ``output_gram`` [out, out]:
      E[g g^T].
    """

    tokens: int = 0
    gradient: Optional[Tensor] = None
    gradient_squared: Optional[Tensor] = None
    tile_gradient_squared: Optional[Tensor] = None
    movement: Optional[Tensor] = None
    input_squared: Optional[Tensor] = None
    gram: Optional[Tensor] = None
    output_gram: Optional[Tensor] = None

    def need(self, name: str) -> Tensor:
        """The statistic ``name``. Raises ValueError when it was not collected."""
        value: Optional[Tensor] = getattr(self, name)
        if value is None:
            raise ValueError(f"statistic {name!r} was not collected")
        return value

    def output_fisher(self, damping: float) -> Tensor:
        """``output_gram`` plus ``damping`` times its mean diagonal on the diagonal, [out, out].

        Where a softmax is saturated the gradients of queries and keys vanish, and what they say of
        small changes says nothing of the removal of large weights: undamped, the second-order loss
        of a removal is far too low there, the more so the longer the LM was trained
        (tests/bench/RESULTS.md).
        """
        gram = self.need("output_gram")
        mean = gram.diagonal().mean() if len(gram) else gram.new_zeros(())
        return gram + damping * mean * torch.eye(len(gram), dtype=gram.dtype).to(gram)

    def add(self, name: str, value: Tensor) -> None:
        """Add to a sum, kept in float64."""
        old: Optional[Tensor] = getattr(self, name)
        value = value.detach().double()
        setattr(self, name, value if old is None else old.add_(value))

    def divide(self) -> None:
        """Turn sums into means over the tokens."""
        for name in STATISTICS:
            value: Optional[Tensor] = getattr(self, name)
            if value is not None:
                setattr(self, name, (value / max(self.tokens, 1)).float())


def _shapes(group: Group) -> dict[str, tuple[int, ...]]:
    height, width = group.matrix.shape
    whole = dict.fromkeys(("gradient", "gradient_squared", "movement"), (height, width))
    tiles = {"tile_gradient_squared": (height // group.rows, width // group.columns)}
    moments = {"input_squared": (width,), "gram": (width, width), "output_gram": (height, height)}
    return {**whole, **tiles, **moments}


class _Watcher:
    """Hooks of one group; ``mask`` [B, T] says which tokens of the running batch count, None that
    the pass is none of its own: blocks that are computed again for the gradient."""

    def __init__(self, group: Group, needs: frozenset[str]) -> None:
        self.group = group
        self.needs = needs
        self.sums = MatrixStatistics()
        for name, shape in _shapes(group).items():
            if name in needs:  # zeros for a process without a batch
                self.sums.add(name, group.matrix.new_zeros(shape))
        self.mask: Optional[Tensor] = None

    def forward_hook(self, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self.mask is None:
            return
        if self.needs & {"input_squared", "gram"}:
            with torch.no_grad():
                x = self.group.features(inputs[0])[self.mask]  # [N, in]
                if "input_squared" in self.needs:
                    self.sums.add("input_squared", x.square().sum(0))
                if "gram" in self.needs:
                    self.sums.add("gram", x.T @ x)
        if "output_gram" in self.needs and output.requires_grad:
            mask = self.mask

            def keep(gradient: Tensor) -> None:
                g = self.group.output_gradient(gradient[mask].detach())  # [N, out]
                self.sums.add("output_gram", g.T @ g)

            output.register_hook(keep)  # type: ignore[no-untyped-call]

    def after_backward(self) -> None:
        gradient = self.group.matrix.grad
        if gradient is None:  # nothing of the loss depends on the matrix
            gradient = torch.zeros_like(self.group.matrix)
        if "gradient" in self.needs:
            self.sums.add("gradient", gradient)
        if "gradient_squared" in self.needs:
            self.sums.add("gradient_squared", gradient.square())
        if "movement" in self.needs:
            self.sums.add("movement", -self.group.matrix.detach() * gradient)
        if "tile_gradient_squared" in self.needs:
            products = gradient * self.group.matrix.detach()
            self.sums.add("tile_gradient_squared", self.group.tile_sum(products).square())


def own_batches(
    batches: Iterable[Batch], max_tokens: int, processes: ProcessGroup
) -> Iterator[Batch]:
    """Of the first ``max_tokens`` tokens (whole batches) of a stream this process's batches."""
    seen = 0
    for number, batch in enumerate(batches):
        if number % processes.world == processes.rank:
            yield batch
        seen += batch.n_targets
        if seen >= max_tokens:
            return


def collect(
    model: TransformerLM,
    groups: Sequence[Group],
    batches: Iterable[Batch],
    needs: frozenset[str],
    max_tokens: int,
    processes: Optional[ProcessGroup] = None,
) -> list[MatrixStatistics]:
    """Statistics of every group over the first ``max_tokens`` tokens (whole batches) of a stream.

    The model runs without dropout and is left as it was. With nothing needed no batch is read.
    ``processes``, which hold the same model and stream, share out the batches; all get the sums.
    Raises ValueError for an unknown statistic, or when ``batches`` holds no token.
    """
    unknown = needs - STATISTICS
    if unknown:
        raise ValueError(f"unknown statistics {sorted(unknown)}; known: {sorted(STATISTICS)}")
    watchers = [_Watcher(group, needs) for group in groups]
    if not needs or not groups:
        return [watcher.sums for watcher in watchers]
    with_gradients = bool(needs & GRADIENT_STATISTICS)
    processes = ProcessGroup(device=model.device) if processes is None else processes
    seen = 0
    with _watched(model, watchers, with_gradients):
        for batch in own_batches(batches, max_tokens, processes):
            mask = batch.targets != IGNORED
            for watcher in watchers:
                watcher.mask = mask
            if with_gradients:
                model.zero_grad(set_to_none=True)
                loss = next_token_loss(model, batch)
                for watcher in watchers:
                    watcher.mask = None
                loss.backward()  # type: ignore[no-untyped-call]
                for watcher in watchers:
                    watcher.after_backward()
            else:
                with torch.no_grad():
                    model(batch.tokens)
            seen += int(mask.sum())
    (tokens,) = processes.add(seen)
    if not tokens:
        raise ValueError("no token to collect statistics from; expected at least one")
    for watcher in watchers:
        processes.add_up([watcher.sums.need(name) for name in sorted(needs)])
        watcher.sums.tokens = int(tokens)
        watcher.sums.divide()
    return [watcher.sums for watcher in watchers]


@contextmanager
def _watched(
    model: TransformerLM, watchers: Sequence[_Watcher], with_gradients: bool
) -> Iterator[None]:
    """Hooks in place, and gradients for the watched matrices alone; undone at the end."""
    wanted = [watcher.group.matrix for watcher in watchers] if with_gradients else []
    handles = [
        watcher.group.linear.register_forward_hook(watcher.forward_hook) for watcher in watchers
    ]
    try:
        with gradients_of(model, wanted):
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def gradients_of(model: TransformerLM, wanted: Sequence[Tensor]) -> Iterator[None]:
    """Dropout off, and gradients for the parameters ``wanted`` alone; undone at the end."""
    training = model.training
    chosen = {id(parameter) for parameter in wanted}
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval()
    try:
        for parameter, _ in before:
            parameter.requires_grad_(id(parameter) in chosen)
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)
        model.zero_grad(set_to_none=True)
        model.train(training)
