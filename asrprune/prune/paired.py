"""What two models give the same matrices to multiply, on the same text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Optional

import torch
from torch import Tensor

from asrprune.lm.model.matrices import Matrix
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED, Batch
from asrprune.lm.training.distributed import ProcessGroup
from asrprune.prune.statistics import own_batches


@dataclass(frozen=True)
class PairedMoments:
    """Means over tokens for the input x of a matrix in one model and x' in another, float64:
    ``mean`` E[x] [in], ``other_mean`` E[x'] [in'], ``cross`` E[x x'^T] [in, in'], ``gram``
    E[x' x'^T] [in', in']."""

    mean: Tensor
    other_mean: Tensor
    cross: Tensor
    gram: Tensor


class _Reached(Exception):
    """All that was asked for was seen: the rest of the forward pass has no use."""


class _Inputs:
    """The inputs of the matrices of one model in the running batch, of the tokens that count."""

    def __init__(self, linears: dict[Place, Matrix]) -> None:
        self.linears = linears
        self.seen: dict[Place, Tensor] = {}
        self.mask: Optional[Tensor] = None

    def __call__(self, model: TransformerLM, batch: Batch) -> dict[Place, Tensor]:
        self.seen, self.mask = {}, batch.targets != IGNORED
        with suppress(_Reached):
            model(batch.tokens)
        return self.seen

    def hook(self, place: Place) -> Any:
        def keep(module: Any, inputs: tuple[Tensor, ...]) -> None:
            self.seen[place] = inputs[0][self.mask].double()  # [N, in]
            if len(self.seen) == len(self.linears):
                raise _Reached

        return keep


def paired_moments(
    model: TransformerLM,
    other: TransformerLM,
    places: Sequence[Place],
    batches: Iterable[Batch],
    max_tokens: int,
    processes: Optional[ProcessGroup] = None,
) -> dict[Place, PairedMoments]:
    """Moments of the inputs of ``places``, x those in ``model`` and x' in ``other``, over the first
    ``max_tokens`` tokens (whole batches) of a stream.

    Both run without dropout and are left as they were. ``processes``, which hold the same models
    and stream, share out the batches; all get the same. Raises ValueError when ``batches`` holds no
    token.
    """
    processes = ProcessGroup(device=model.device) if processes is None else processes
    pair = [dict(one.linears()) for one in (model, other)]
    first, second = (_Inputs({place: one[place] for place in places}) for one in pair)
    sums = {place: _zeros(first.linears[place], second.linears[place]) for place in places}
    tokens = 0
    with torch.no_grad(), _watched(model, first), _watched(other, second):
        for batch in own_batches(batches, max_tokens, processes):
            seen, seen_after = first(model, batch), second(other, batch)
            for place in places:
                x, after = seen.get(place), seen_after.get(place)
                if x is not None and after is not None:
                    for total, part in zip(
                        sums[place], (x.sum(0), after.sum(0), x.T @ after, after.T @ after)
                    ):
                        total += part
            tokens += batch.n_targets
    (tokens_in_all,) = processes.add(tokens)
    if not tokens_in_all:
        raise ValueError("no token to collect statistics from; expected at least one")
    processes.add_up([total for place in places for total in sums[place]])
    return {
        place: PairedMoments(*(total / tokens_in_all for total in sums[place])) for place in places
    }


def _zeros(linear: Matrix, other: Matrix) -> list[Tensor]:
    like = next(iter(linear.parts.values()))
    before, after = linear.in_features, other.in_features
    shapes = (before,), (after,), (before, after), (after, after)
    return [like.new_zeros(shape, dtype=torch.float64) for shape in shapes]


@contextmanager
def _watched(model: TransformerLM, inputs: _Inputs) -> Iterator[None]:
    training = model.training
    handles = [
        linear.register_forward_pre_hook(inputs.hook(place))
        for place, linear in inputs.linears.items()
    ]
    model.eval()
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
