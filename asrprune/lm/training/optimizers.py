"""Optimisers of the LM and how their learning rate runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import torch
from torch import nn
from torch.optim import AdamW

from asrprune.core.tables import lookup
from asrprune.lm.training.muon import Muon
from asrprune.lm.training.sharding import is_sharded


@dataclass(frozen=True)
class OptimizerConfig:
    """``lr`` is AdamW's peak rate, ``muon_lr`` that of Muon's matrices.

    The rate rises linearly over ``warmup_steps`` steps, then falls along ``schedule`` to
    ``final_lr`` times the peak at the end of the budget. Gradients are clipped to the norm
    ``clip``; 0 turns it off. Weight decay acts on matrices, not on norms, biases and positions.
    """

    optimizer: str = "muon"
    lr: float = 3e-3
    muon_lr: float = 1e-2
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.98
    momentum: float = 0.95
    schedule: str = "linear"
    warmup_steps: int = 100
    final_lr: float = 0.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        lookup(OPTIMISERS, self.optimizer, "optimizer")
        lookup(LR_SCHEDULES, self.schedule, "learning-rate schedule")
        for name in ("lr", "muon_lr", "weight_decay", "warmup_steps", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more")
        for name in ("beta1", "beta2", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 <= {name} < 1")
        if not 0 <= self.final_lr <= 1:
            raise ValueError(f"final_lr is {self.final_lr}; expected a fraction of the peak rate")

    def lr_factor(self, step: int, progress: float) -> float:
        """What the peak rate is multiplied with in step ``step`` (from 0).

        ``progress`` is the part of the budget that was used before this step, 0 to 1; the decay
        runs over the whole budget and the warm-up is laid over its start.
        """
        fall = lookup(LR_SCHEDULES, self.schedule, "learning-rate schedule")
        decayed = self.final_lr + (1.0 - self.final_lr) * fall(min(max(progress, 0.0), 1.0))
        return min(decayed, (step + 1) / (self.warmup_steps + 1))


LR_SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 + 0.5 * math.cos(math.pi * progress),
    "constant": lambda progress: 1.0,
}
"""Schedule name -> the factor that falls from 1 (or stays there) as progress goes from 0 to 1."""


class Optimizer:
    """One or more torch optimisers that step together under one learning-rate factor."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts
        for group in self._groups():
            group["initial_lr"] = group["lr"]

    def _groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def step(self, lr_factor: float = 1.0) -> None:
        """Update the parameters at ``lr_factor`` times each group's peak rate."""
        for group in self._groups():
            group["lr"] = group["initial_lr"] * lr_factor
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def parameter(self, part: int, number: int) -> nn.Parameter:
        """What the state ``number`` of a part is of."""
        held = [one for group in self.parts[part].param_groups for one in group["params"]]
        parameter: nn.Parameter = held[number]
        return parameter

    @property
    def size_bytes(self) -> int:
        """Of all float32 weights that are trained, their gradients and their state: 16 a weight
        for AdamW, 12 for Muon."""
        return sum(
            (12 if isinstance(part, Muon) else 16) * parameter.numel()
            for part in self.parts
            for group in part.param_groups
            for parameter in group["params"]
        )

    def state_dict(self) -> list[dict[str, Any]]:
        """The state of every part."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Take over a state that ``state_dict`` gave for the same model and config."""
        if len(state) != len(self.parts):
            raise ValueError(f"state of {len(state)} optimisers; expected {len(self.parts)}")
        for part, values in zip(self.parts, state):
            fused = [group.get("fused") for group in part.param_groups]
            part.load_state_dict(values)
            for group, own in zip(part.param_groups, fused):
                if "fused" in group:  # of this device, not of the one that the state is from
                    group["fused"] = own


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> Optimizer:
    """A fresh optimiser over all parameters of ``model`` that need a gradient.

    Make a new one whenever parameters were replaced.
    """
    return Optimizer(lookup(OPTIMISERS, config.optimizer, "optimizer")(model, config))


def _adamw(model: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """AdamW on everything."""
    matrices, embeddings, rest = _split(model)
    return [_make_adamw(matrices + embeddings, rest, config)]


def _muon(model: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """Muon on the blocks' matrices, AdamW on the rest."""
    matrices, embeddings, rest = _split(model)
    parts: list[torch.optim.Optimizer] = [_make_adamw(embeddings, rest, config)]
    if matrices:
        parts.append(Muon(matrices, config.muon_lr, config.weight_decay, config.momentum))
    return parts


OPTIMISERS: dict[str, Callable[[nn.Module, OptimizerConfig], list[torch.optim.Optimizer]]] = {
    "muon": _muon,
    "adamw": _adamw,
}
"""Optimiser name -> what makes its parts for a model."""


def _make_adamw(
    decayed: list[nn.Parameter], rest: list[nn.Parameter], config: OptimizerConfig
) -> AdamW:
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    betas = config.beta1, config.beta2
    return AdamW(groups, lr=config.lr, betas=betas, eps=1e-8, fused=_fused(decayed + rest))


def _fused(parameters: Sequence[nn.Parameter]) -> Optional[bool]:
    """Whether AdamW goes over the weights once, not once for each of its operations: on a CPU (4
    times as fast, measured with torch 2.13; tests/bench/RESULTS.md); None: as torch likes."""
    whole = all(one.device.type == "cpu" and not is_sharded(one) for one in parameters)
    return True if parameters and whole else None


def _split(
    model: nn.Module,
) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """The blocks' matrices, the embedding's matrices, and all others; empty parameters nowhere."""
    matrices, embeddings, rest = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or parameter.numel() == 0:
            continue
        if parameter.ndim == 2 and "blocks." in name:
            matrices.append(parameter)
        elif parameter.ndim == 2 and name != "positions":
            embeddings.append(parameter)
        else:
            rest.append(parameter)
    return matrices, embeddings, rest
