"""Several processes that train one model: started by torchrun, joined by sums.

Each process has the whole model and its own batches. Gradients of summed losses are added up over
processes and then divided by the number of tokens, so that a step equals the step of one process
that accumulated the same batches; wrapping the model is not needed, and it may change its shape
between steps.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed

from asrprune.lm.device import resolve_device


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

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes."""
        if self.world == 1:
            return
        shared = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in shared:
            if parameter.grad is None:  # unused here, maybe not elsewhere
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in shared if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        start = 0
        for gradient in gradients:
            stop = start + gradient.numel()
            gradient.copy_(flat[start:stop].view_as(gradient))
            start = stop

    def add(self, *values: float) -> list[float]:
        """Each value's sum over all processes, in float64."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return [float(value) for value in total]

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.world > 1:
            distributed.all_reduce(torch.zeros(1, device=self.device))

    def broadcast(self, value: Tensor) -> Tensor:
        """The first process's value, in all processes."""
        if self.world > 1:
            distributed.broadcast(value, src=0)
        return value


@contextlib.contextmanager
def process_group(device: str = "auto") -> Iterator[ProcessGroup]:
    """The processes that torchrun started (its RANK, WORLD_SIZE, LOCAL_RANK), or this one alone."""
    chosen = resolve_device(device)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ProcessGroup(device=chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield ProcessGroup(distributed.get_rank(), world, chosen)
    finally:
        distributed.destroy_process_group()
