"""The optimisation loop that training from scratch and fine-tuning between pruning steps share."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

from asrprune.lm.device import without_denormals
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import Batch, BatchStream
from asrprune.lm.training.distributed import ProcessGroup
from asrprune.lm.training.loss import LossFunction, next_token_loss
from asrprune.lm.training.optimizers import Optimizer, OptimizerConfig, make_optimizer
from asrprune.lm.training.precision import choose_precision
from asrprune.lm.training.sharding import gathered, is_sharded, local, split_like, whole


@dataclass(frozen=True)
class Budget:
    """Training ends after ``max_steps`` steps or ``max_tokens`` predicted tokens, if that is first.

    Tokens count over all processes, padding left out. Time is no budget: it would make results
    depend on the machine.
    """

    max_steps: Optional[int] = None
    max_tokens: Optional[int] = None

    def __post_init__(self) -> None:
        if self.max_steps is None and self.max_tokens is None:
            raise ValueError("neither max_steps nor max_tokens is given; expected one of them")
        for name in ("max_steps", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value}; expected 0 or more")

    def progress(self, steps: int, tokens: int) -> float:
        """The part of the budget that is used, 1.0 or more when it is used up."""
        parts = [
            done / limit if limit else 1.0
            for done, limit in ((steps, self.max_steps), (tokens, self.max_tokens))
            if limit is not None
        ]
        return max(parts)


@dataclass(frozen=True)
class Step:
    """What one optimiser step did; ``loss`` is the mean per predicted token, in nats.

    ``step`` counts from 1, ``tokens`` those of this step over all processes. ``gradient_norm`` is
    measured before clipping.
    """

    step: int
    loss: float
    tokens: int
    gradient_norm: float
    lr_factor: float


class TrainingLoop:
    """A model, its batches and its optimiser, advanced one step at a time.

    ``accumulation`` batches make a step, over all processes of ``group``: the step is the same, up
    to the order of sums, for any number of them. Dropout noise is drawn from (``seed``, batch
    number), so that it is the same after a resume, and with other processes that take whole
    batches; of a batch that several share each draws its own. With ``keep_zeros`` the zeros that
    matrices have now stay, and neither clipping nor the optimiser sees their gradients.
    """

    def __init__(
        self,
        model: TransformerLM,
        batches: BatchStream,
        optimizer: OptimizerConfig,
        budget: Budget,
        accumulation: int = 1,
        precision: str = "fp32",
        seed: int = 1,
        loss: LossFunction = next_token_loss,
        group: Optional[ProcessGroup] = None,
        keep_zeros: bool = False,
    ) -> None:
        if accumulation < 1:
            raise ValueError(f"accumulation is {accumulation}; expected 1 or more")
        self.model = model
        self.batches = batches
        self.budget = budget
        self.steps = 0
        self.tokens = 0
        self._config = optimizer
        self._optimizer: Optimizer = make_optimizer(model, optimizer)
        self._accumulation = accumulation
        self._seed = seed
        self._loss = loss
        self._device = next(model.parameters()).device
        self._group = ProcessGroup(device=self._device) if group is None else group
        self._sharded = is_sharded(model)
        self.precision = choose_precision(precision, self._device)
        matrices = [one for one in model.parameters() if keep_zeros and one.ndim == 2]
        self._masks = [(one, local(one.detach()) != 0) for one in matrices]

    @property
    def optimizer_bytes(self) -> int:
        """Of the weights, their gradients and the optimiser's state, over all processes."""
        return self._optimizer.size_bytes

    @property
    def progress(self) -> float:
        """The part of the budget that is used."""
        return self.budget.progress(self.steps, self.tokens)

    @property
    def done(self) -> bool:
        """Whether the budget is used up."""
        return self.progress >= 1.0

    @without_denormals()
    def step(self) -> Step:
        """Make one step. The model is left in training mode.

        Raises ValueError when the loss or the gradient is not finite.
        """
        self.model.train()
        self.model.zero_grad(set_to_none=True)
        factor = self._config.lr_factor(self.steps, self.progress)
        loss_sum, n_targets = self._add_up_gradients()
        norm = self._finish_gradients(n_targets)
        if not (math.isfinite(loss_sum) and math.isfinite(norm)):
            raise ValueError(
                f"loss {loss_sum / n_targets:g} and gradient norm {norm:g} in step "
                f"{self.steps + 1}; expected finite numbers: lower optimizer.lr or muon_lr"
            )
        self._optimizer.step(factor)
        with torch.no_grad():
            for matrix, mask in self._masks:
                local(matrix).mul_(mask).add_(0.0)  # momentum moves what has no gradient
        self.steps += 1
        self.tokens += n_targets
        return Step(self.steps, loss_sum / n_targets, n_targets, norm, factor)

    def _add_up_gradients(self) -> tuple[float, int]:
        """Gradients of the summed loss over all batches and processes; the sum and its tokens."""
        loss_sum, n_targets = 0.0, 0
        for batch in self.batches.next_batches(self._accumulation):
            n_targets += batch.n_targets
            _seed_noise(self._seed, batch)
            with self._autocast():
                loss = self._loss(self.model, batch.to(self._device))
            loss.backward()  # type: ignore[no-untyped-call]
            loss_sum += float(loss.detach())
        if not self._sharded:
            self._group.add_gradients(self.model.parameters())
        all_loss, all_targets = self._group.add(loss_sum, n_targets)
        return all_loss, int(all_targets)

    def _finish_gradients(self, n_targets: int) -> float:
        """Turn the sum's gradients into the mean's and clip them; the norm before clipping."""
        for matrix, mask in self._masks:
            if matrix.grad is not None:
                local(matrix.grad).mul_(mask)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        shares = self._group.world if self._sharded else 1  # FSDP2 makes a mean over processes
        for gradient in gradients:
            gradient.div_(n_targets / shares)
        limit = self._config.clip if self._config.clip > 0 else math.inf
        return float(whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)))

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "fp32":
            return contextlib.nullcontext()
        cached = not self._sharded  # a cache would keep a copy of every block
        return torch.autocast(self._device.type, dtype=torch.bfloat16, cache_enabled=cached)

    def state(self) -> dict[str, Any]:
        """All that a resume needs, with any number of processes: model, optimiser, position.

        Tensors are not copied but for those of a model that is split over processes: the first
        gets them whole, the others None, and all must ask.
        """
        return {
            "steps": self.steps,
            "tokens": self.tokens,
            "batches": self.batches.state(),
            "model": gathered(dict(self.model.state_dict()), self._group),
            "optimizer": gathered(self._optimizer.state_dict(), self._group),
        }

    def keeper(self) -> Callable[[tuple[Any, ...], Tensor], Tensor]:
        """``keep(path, tensor)``: what this process needs of a whole tensor of a state, for
        ProcessGroup.from_first."""
        named = dict(self.model.named_parameters())

        def keep(path: tuple[Any, ...], tensor: Tensor) -> Tensor:
            kind, key = path[0], path[1]
            owner = named.get(key) if kind == "model" else self._optimizer.parameter(key, path[3])
            kept = tensor if owner is None else split_like(tensor, owner)
            return kept if is_sharded(kept) else kept.cpu()

        return keep

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where the loop that gave ``state`` stood; made with the same arguments."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.batches.load_state(state["batches"])
        self.steps, self.tokens = state["steps"], state["tokens"]


def fine_tune(
    model: TransformerLM,
    batches: BatchStream,
    optimizer: OptimizerConfig,
    budget: Budget,
    *,
    accumulation: int = 1,
    precision: str = "fp32",
    seed: int = 1,
    loss: LossFunction = next_token_loss,
    group: Optional[ProcessGroup] = None,
    after_step: Optional[Callable[[Step], None]] = None,
    begun: Optional[Mapping[str, Any]] = None,
    between: Optional[Callable[[TrainingLoop], None]] = None,
) -> TrainingLoop:
    """Train ``model`` in place until the budget is used up, and return the finished loop.

    The optimiser starts afresh with its own warm-up and decay; ``batches`` go on from where they
    stand, so that a following call sees new data and ``batches.state()`` tells where. ``loss`` may
    hold a teacher. ``after_step`` is called after each update, to keep masks on or log, and then
    ``between`` where another step follows; what that has of ``loop.state()`` is ``begun`` where a
    killed call goes on. The model is returned in evaluation mode.
    """
    loop = TrainingLoop(
        model, batches, optimizer, budget, accumulation, precision, seed, loss, group
    )
    if begun is not None:
        loop.load_state(begun)
    while not loop.done:
        made = loop.step()
        if after_step is not None:
            after_step(made)
        if between is not None and not loop.done:
            between(loop)
    model.eval()
    return loop


def _seed_noise(seed: int, batch: Batch) -> None:
    part = [batch.part] if batch.part else []
    entropy = np.random.SeedSequence([seed, batch.number, *part])
    torch.manual_seed(int(entropy.generate_state(1, np.uint32)[0]))
