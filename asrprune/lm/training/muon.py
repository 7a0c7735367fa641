"""Muon: gradient descent in which every matrix's update is made orthogonal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Optional

import torch
from torch import Tensor, distributed, nn

from asrprune.lm.training.distributed import in_buckets
from asrprune.lm.training.precision import choose_precision
from asrprune.lm.training.sharding import local, rows_for, whole

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients a, b, c of a step ``X <- a X + (b S + c S^2) X``, ``S = X X^T``."""
STEPS = 5
GRAM_FROM = 2
"""How many times as long as wide a matrix is that is orthogonalised by way of its Gram matrix."""


class Muon(torch.optim.Optimizer):
    """``W <- (1 - lr wd) W - lr 0.2 sqrt(max(out, in)) O``, O the orthogonalised momentum.

    The momentum is Nesterov's of an exponential mean of the gradients. The factor makes the size
    of an update per weight that of AdamW's, whatever the matrix's shape, so that rates carry over
    when pruning changes shapes. ``precision`` is that of the orthogonalisation: bf16 where the
    hardware multiplies it, fp32 elsewhere. torch.optim.Muon, which this equals in bf16, has bf16
    only, and a CPU that must emulate it takes 60 times as long for it. Matrices of one shape are
    orthogonalised together, a bounded number at a time, and processes of one run share them out;
    those that are split over processes are whole for it.

    Source: Jordan et al., Muon (2024); the factor is from Liu et al., arXiv:2502.16982, 2.2.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        precision: str = "auto",
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self._precision = precision
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise ValueError(f"a parameter of shape {list(parameter.shape)}; expected 2-D")

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        """Update the matrices that have a gradient; the closure's loss if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for bucket in in_buckets(one for one in group["params"] if one.grad is not None):
                self._update(_by_shape(bucket), group)
        return loss

    def _update(self, shapes: list[list[Tensor]], group: dict[str, Any]) -> None:
        updates = [
            torch.stack([whole(self._momentum(one, group)) for one in matrices])
            for matrices in shapes
        ]
        for matrices, stack in zip(shapes, self._shared(updates)):
            rows, columns = matrices[0].shape
            size = group["lr"] * 0.2 * math.sqrt(max(rows, columns))
            for matrix, update in zip(matrices, stack):
                own = local(matrix)
                own.mul_(1.0 - group["lr"] * group["weight_decay"])
                own.add_(rows_for(update, matrix), alpha=-size)

    def _momentum(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean: Tensor = state["momentum_buffer"]
        mean.lerp_(gradient, 1.0 - group["momentum"])
        return gradient.lerp(mean, group["momentum"])

    def _shared(self, updates: list[Tensor]) -> list[Tensor]:
        """Every stack of updates made orthogonal. Of several processes, which have the same ones,
        each does its share of the matrices; all of them get all."""
        together = distributed.is_available() and distributed.is_initialized()
        world = distributed.get_world_size() if together else 1
        if world == 1 or not updates:
            return [self._orthogonal(stack) for stack in updates]
        whole = [torch.zeros_like(stack) for stack in updates]
        for number, (stack, result) in enumerate(zip(updates, whole)):
            own = slice((distributed.get_rank() + number) % world, None, world)
            if len(stack[own]):
                result[own] = self._orthogonal(stack[own])
        flat = torch.cat([result.flatten() for result in whole])
        distributed.all_reduce(flat)  # the others' are zeros here: the sum is exact
        sizes = [result.numel() for result in whole]
        return [part.view_as(result) for part, result in zip(torch.split(flat, sizes), whole)]

    def _orthogonal(self, updates: Tensor) -> Tensor:
        precision = choose_precision(self._precision, updates.device)
        return orthogonalised(
            updates.to(torch.bfloat16 if precision == "bf16" else torch.float32)
        ).to(updates.dtype)


def _by_shape(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    groups: dict[tuple[Any, ...], list[Tensor]] = {}
    for one in parameters:
        groups.setdefault((*one.shape, one.device), []).append(one)
    return list(groups.values())


def orthogonalised(matrices: Tensor) -> Tensor:
    """Every matrix [n, out, in] with its singular values brought near 1 (to about 0.7..1.2).

    Computed in the format of ``matrices``. A matrix of zeros stays one.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]  # no singular value above 1
    wide = x.shape[2] >= GRAM_FROM * x.shape[1]
    x = _by_gram(x) if wide and x.dtype == torch.float32 else _directly(x)
    return x.transpose(1, 2) if tall else x


def _directly(x: Tensor) -> Tensor:
    """Newton-Schulz of [n, m, k], m <= k: 2 products of m x m x k and one of m x m x m a step."""
    a, b, c = NEWTON_SCHULZ
    for _ in range(STEPS):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _by_gram(x: Tensor) -> Tensor:
    """The same with 2 products of m x m x k in all, and 4 of m x m x m a step.

    A step multiplies x by a polynomial P of S, so that the next S is P S P: x is needed at the
    ends only. In bf16 the errors of S would add up.
    """
    gram = x @ x.transpose(1, 2)
    product = factor = _polynomial(gram)
    for _ in range(STEPS - 1):
        gram = factor @ (gram @ factor)
        factor = _polynomial(gram)
        product = factor @ product
    return product @ x


def _polynomial(gram: Tensor) -> Tensor:
    """``a + b S + c S^2``."""
    a, b, c = NEWTON_SCHULZ
    value = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    value.diagonal(dim1=1, dim2=2).add_(a)
    return value
