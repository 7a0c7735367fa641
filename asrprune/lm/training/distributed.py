"""Several processes that make one run: started by torchrun, joined by sums.

A step adds up the gradients of summed losses over all processes and divides by the number of
tokens, so that it equals the step of one process that took the same batches. Models need no
wrapping, and may change their shape between steps. What the first process decides or reads, the
others get from it; only the first writes.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from asrprune.lm.device import resolve_device

Value = TypeVar("Value")

BUCKET = 1 << 24
"""Numbers that are sent at one time: what the memory of a step grows by, however large the LM."""
TIMEOUT = timedelta(hours=1)
"""For what the others wait at most while the first process writes a large state."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process's ``rank`` among ``world`` processes, and its device."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and the log."""
        return self.rank == 0

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes."""
        if self.world == 1:
            return
        gradients = []
        for parameter in parameters:
            if parameter.requires_grad:
                if parameter.grad is None:  # unused here, maybe not elsewhere
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        self.add_up(gradients)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor, all of one dtype, by its sum over all processes."""
        if self.world == 1:
            return
        for bucket in in_buckets(tensors):
            one = bucket[0].reshape(-1)  # large ones are sent as they are
            flat = one if len(bucket) == 1 else torch.cat([tensor.flatten() for tensor in bucket])
            distributed.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts):
                tensor.copy_(part.view_as(tensor))

    def add(self, *values: float) -> list[float]:
        """Each value's sum over all processes, in float64."""
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        self.add_up([total])
        return [float(value) for value in total]

    def share(self, model: nn.Module) -> None:
        """Give the model in every process the first one's parameters and buffers."""
        if self.world > 1:
            for value in model.state_dict().values():
                distributed.broadcast(value, src=0)

    def from_first(
        self,
        make: Callable[[], Value],
        keep: Callable[[tuple[Any, ...], Tensor], Tensor] = lambda path, tensor: tensor,
    ) -> Value:
        """What ``make`` gives in the first process, which alone calls it, in all of them.

        Plain values, and tensors in dicts, lists and tuples. A tensor is sent whole, one at a
        time; in its place stands ``keep(path, tensor)``, path the keys and indices that lead to
        it. With one process what ``make`` gives is left as it is.
        """
        if self.world == 1:
            return make()
        value = make() if self.is_first else None
        box = [_without_tensors(value)]
        distributed.broadcast_object_list(box, src=0)
        filled: Value = self._filled((), box[0], value, keep)
        return filled

    def _filled(self, path: tuple[Any, ...], plan: Any, value: Any, keep: Any) -> Any:
        if isinstance(plan, _Missing):
            if self.is_first:
                whole = value.to(self.device).contiguous()
            else:
                whole = torch.empty(plan.shape, dtype=plan.dtype, device=self.device)
            distributed.broadcast(whole, src=0)
            return keep(path, whole)

        def inner(key: Any, one: Any) -> Any:
            return self._filled((*path, key), one, value[key] if self.is_first else None, keep)

        if isinstance(plan, dict):
            return {key: inner(key, one) for key, one in plan.items()}
        if isinstance(plan, (list, tuple)):
            return type(plan)(inner(number, one) for number, one in enumerate(plan))
        return plan


@dataclass(frozen=True)
class _Missing:
    """Where a tensor stands."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def _without_tensors(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _Missing(tuple(value.shape), value.dtype)
    if isinstance(value, dict):
        return {key: _without_tensors(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_tensors(one) for one in value)
    return value


def in_buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours together, BUCKET numbers at most or one tensor alone.

    >>> [len(bucket) for bucket in in_buckets([torch.zeros(5), torch.zeros(6)])]
    [2]
    """
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(one.numel() for one in bucket) + tensor.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


@contextlib.contextmanager
def process_group(device: str = "auto") -> Iterator[ProcessGroup]:
    """The processes that torchrun started (its RANK, WORLD_SIZE, LOCAL_RANK), or this one alone.

    Only the first logs more than errors. Of an error that ends the block, the process that meets
    it first tells; the others, which meet it too or lose the connection, exit with status 1.
    """
    chosen = resolve_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ProcessGroup(device=chosen)
        return
    if chosen.type == "cuda":
        chosen = resolve_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(chosen)
    # Its defaults are the group of the time of its import. Imported later, as training
    # does, it keeps the group's threads past the end, where one may abort the process.
    importlib.import_module("torch.distributed.nn.functional")
    store, rank, world = next(distributed.rendezvous("env://"))  # type: ignore[attr-defined]
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    distributed.init_process_group(
        backend, store=store, rank=rank, world_size=world, timeout=TIMEOUT
    )
    if rank:
        logging.getLogger().setLevel(logging.ERROR)
    try:
        yield ProcessGroup(rank, world, chosen)
    except BaseException as problem:
        if not _is_first_to_fail(store):
            with contextlib.suppress(BaseException):  # such as SIGTERM
                time.sleep(5)  # the end of any makes torchrun end all: first the one that tells
            raise SystemExit(1) from None
        if isinstance(problem, RuntimeError) and _is_lost_connection(problem):
            raise ConnectionError("another process of this run ended without a word") from problem
        raise
    distributed.destroy_process_group()


def _is_first_to_fail(store: Any) -> bool:
    """Whether no other process met an error before; no where whoever kept count is gone."""
    try:
        return bool(store.add("failed", 1) == 1)
    except RuntimeError:
        return False


def _is_lost_connection(problem: RuntimeError) -> bool:
    return isinstance(problem, distributed.DistError) or "gloo" in str(problem)
