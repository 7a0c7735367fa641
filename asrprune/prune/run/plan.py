"""What a pruning run is to do: a frozen plan that is also a JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from asrprune.core.config import from_json, replaced, to_json
from asrprune.core.tables import lookup
from asrprune.files import PathLike, read_json
from asrprune.lm.training.optimizers import OptimizerConfig
from asrprune.lm.training.precision import PRECISIONS
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.methods import METHODS, Options
from asrprune.prune.methods.anchored import ANCHORED
from asrprune.prune.methods.compensation import COMPENSATIONS, OF_MASKS
from asrprune.prune.run.schedules import SCHEDULES
from asrprune.prune.surgery.factorisation import FACTORISATIONS

MOST_STEPS = 10_000
"""Pruning steps of a run."""
FINE_TUNE_SHARE = 0.1
"""Fine-tuning tokens of a run whose plan states none, as a share of one pass over the training
data."""

ANNEALED = ("steps", "sizes")


@dataclass(frozen=True)
class FineTuning:
    """How fine-tuning runs: ``batch_tokens`` tokens a step, padding counted; with ``distill`` the
    loss is ``(1 - distill_weight)`` times cross-entropy plus ``distill_weight`` times the
    divergence from the parent, or another teacher, at ``temperature``, plus ``distill_hidden``
    times the distance of what stands behind each block from the same of the teacher
    (distillation.py), which has to have blocks as many and as wide. After each pruning step the
    learning rate warms up over a tenth of what follows (at most ``optimizer.warmup_steps``) and
    falls along its schedule; with ``anneal`` ``sizes`` it falls at the saved sizes alone and stays
    at its peak after the steps between.
    ``precision``: ``auto`` is bf16 where the GPU or CPU multiplies it in hardware, else fp32.
    ``checkpoint_activations``: less memory for more time (1.2 times, measured), here and
    in the criterion's gradients.
    """

    batch_tokens: int = 4096
    distill: bool = True
    temperature: float = 1.0
    distill_weight: float = 0.5
    distill_hidden: float = 0.0
    anneal: str = "steps"
    precision: str = "auto"
    checkpoint_activations: bool = False
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(lr=1e-3, muon_lr=5e-3, warmup_steps=50)
    )

    def __post_init__(self) -> None:
        if self.batch_tokens < 1:
            raise ValueError(f"batch_tokens is {self.batch_tokens}; expected >= 1")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r}; known: {', '.join(PRECISIONS)}")
        if not self.temperature > 0.0:
            raise ValueError(f"temperature is {self.temperature}; expected > 0")
        if not 0.0 <= self.distill_weight <= 1.0:
            raise ValueError(f"distill_weight is {self.distill_weight}; expected 0..1")
        if not 0.0 <= self.distill_hidden <= 1e6:
            raise ValueError(f"distill_hidden is {self.distill_hidden}; expected 0..1e6")
        if self.distill_hidden and not self.distill:
            raise ValueError(f"distill_hidden is {self.distill_hidden}; expected 0 without distill")
        if self.anneal not in ANNEALED:
            raise ValueError(f"anneal {self.anneal!r}; known: {', '.join(ANNEALED)}")

    def between_sizes(self) -> FineTuning:
        """That of a pruning step whose LM is not saved."""
        if self.anneal == "steps":
            return self
        return replace(self, optimizer=replace(self.optimizer, schedule="constant"))


@dataclass(frozen=True)
class Plan:
    """``plan = criterion x method x schedule x fine-tuning x target sizes``.

    ``sparsities``: fractions of prunable parameters removed, one saved model each. Prunable are
    the weights of the blocks' matrices (``options.matrices``); biases, norms, positions and the
    embedding are not. ``steps``: pruning steps of a schedule from the parent to the last size.

    ``fine_tune_tokens`` is the budget of one run down to the smallest size: one-shot spends it on
    each size (each a run of its own), elastic once on all sizes together; the other schedules reach
    all sizes in one run and spend it once, the share ``hold`` of it at the saved sizes and the rest
    evenly over all steps. Of the former each size gets ``growth`` times what the next larger one
    got: small models need more.
    0 is no fine-tuning, null FINE_TUNE_SHARE of the training data.
    ``statistics_tokens`` are read for the criterion at every step, and do not count.
    """

    criterion: str = "kfac"
    method: str = "structured"
    schedule: str = "cubic"
    sparsities: tuple[float, ...] = (0.5,)
    steps: int = 8
    fine_tune_tokens: Optional[int] = None
    hold: float = 0.5
    growth: float = 1.0
    statistics_tokens: int = 50_000
    seed: int = 1
    options: Options = field(default_factory=Options)
    fine_tuning: FineTuning = field(default_factory=FineTuning)

    def __post_init__(self) -> None:
        lookup(CRITERIA, self.criterion, "criterion")
        lookup(METHODS, self.method, "method")
        lookup(SCHEDULES, self.schedule, "schedule")
        if METHODS[self.method].fresh and self.schedule != "one-shot":
            raise ValueError(
                f"schedule is {self.schedule}; expected one-shot, as method {self.method} begins "
                "with random weights at every pruning step"
            )
        if self.schedule == "elastic":
            self._check_elastic()
        self._check_compensation()
        if METHODS[self.method].narrows and self.fine_tuning.distill_hidden:
            raise ValueError(
                f"fine_tuning.distill_hidden is {self.fine_tuning.distill_hidden}; expected 0, as "
                f"method {self.method} makes hidden states narrower than the teacher's"
            )
        if not self.options.matrices:
            raise ValueError("options.matrices is []; expected one or more")
        lookup(FACTORISATIONS, self.options.factorisation, "factorisation")
        if not self.sparsities or len(set(self.sparsities)) != len(self.sparsities):
            raise ValueError(f"sparsities {list(self.sparsities)}; expected one or more, distinct")
        for sparsity in self.sparsities:
            if not 0.0 <= sparsity <= 1.0:
                raise ValueError(f"sparsity is {sparsity}; expected 0 <= sparsity <= 1")
        for name, least in (("steps", 1), ("fine_tune_tokens", 0), ("statistics_tokens", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; expected >= {least}")
        if self.steps > MOST_STEPS:
            raise ValueError(f"steps is {self.steps}; expected {MOST_STEPS} at most")
        if not 0.0 <= self.hold <= 1.0:
            raise ValueError(f"hold is {self.hold}; expected 0..1")
        if not 0.0 < self.growth <= 100.0:
            raise ValueError(f"growth is {self.growth}; expected > 0 and at most 100")

    def _check_elastic(self) -> None:
        if METHODS[self.method].elastic is None:
            able = " or ".join(name for name, one in METHODS.items() if one.elastic is not None)
            raise ValueError(f"method is {self.method}; expected {able} with schedule elastic")
        if len(self.sparsities) < 2:
            found = f"sparsities {list(self.sparsities)}"
            raise ValueError(f"{found}; expected two or more, the ends of an elastic LM's range")

    def _check_compensation(self) -> None:
        name, method = self.options.compensation, METHODS[self.method]
        lookup(COMPENSATIONS, name, "compensation")
        known = list(OF_MASKS) if method.masks else ["none"]
        reason = f"method {self.method} makes {'nothing but' if method.masks else 'no'} zeros"
        if method.fits and self.schedule == "elastic":
            reason = "schedule elastic fits no size alone"
        elif method.fits:
            known.append(ANCHORED)
        if name not in known:
            expected = " or ".join(known)
            raise ValueError(f"options.compensation is {name}; expected {expected}, as {reason}")

    def with_budget(self, train_tokens: int) -> Plan:
        """The plan with a number of fine-tuning tokens, for training data whose passes predict
        ``train_tokens``, ``</s>`` counted."""
        if self.fine_tune_tokens is not None:
            return self
        return replace(self, fine_tune_tokens=max(1, round(FINE_TUNE_SHARE * train_tokens)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``plan_from_dict`` is the inverse."""
        return to_json(self)


def plan_from_dict(value: Mapping[str, Any], default: Plan) -> Plan:
    """``default`` with what ``value`` states; nested objects need to state only what differs.

    Raises ValueError for an unknown key or a value of the wrong type or range.
    """
    return replaced(default, value)


def read_plan(path: PathLike, default: Plan) -> Plan:
    """``default`` with what a JSON file states, as a plan or under the key ``plan``, where
    ``prune`` itself writes it. Raises InputError for anything wrong in it."""
    value = read_json(path)
    if isinstance(value, dict) and "plan" in value:
        value = value["plan"]
    return from_json(Plan, value, path, start=default)


PLAN_MEANINGS = {
    "hold": "share of the fine-tuning that the saved sizes get, the rest goes evenly to all steps",
    "growth": "times the fine-tuning of the next larger saved size",
    "options.matrices": "those that are pruned",
    "options.scope": "of masks: rank weights over all (global), within each matrix, or each row",
    "options.multiple_of": "FFN widths and ranks are rounded to it",
    "options.min_heads": "heads that each block keeps",
    "options.min_width": "neurons that each FFN keeps",
    "options.min_rank": "rank that each matrix keeps",
    "options.min_share": "share of each masked matrix that stays",
    "options.width_share": "exponent of the shrinkage that width takes in width+structured",
    "options.factorisation": "what makes the components of a matrix (asrprune list factorisations)",
    "options.refactor": "whether factored matrices are factored anew at every step",
    "options.form": "what low rank stores: factors or interpolative",
    "options.embedding_rank": "of the tied embedding before the first step; 0: it stays as it is",
    "options.embedding_sparsity": "share of the tied embedding's weights that become zero",
    "options.positions_sparsity": "share of the learned positions' weights that become zero",
    "options.compensation": "how kept weights make up for removed ones (list compensations)",
    "options.depth_unit": "depth removes each sublayer by itself, or whole blocks",
    "options.head_unit": "query heads of a key and value head leave as a group, or as query heads",
    "fine_tuning.batch_tokens": "tokens of a step, padding counted",
    "fine_tuning.temperature": "of the teacher's and the model's distributions in distillation",
    "fine_tuning.distill_weight": "share of the loss that is distillation, the rest cross-entropy",
    "fine_tuning.distill_hidden": "times the distance of hidden states from the teacher's",
    "fine_tuning.anneal": "whether the rate falls in all steps, or at the saved sizes alone",
}
"""Key of the plan that has no flag of its own -> what it is, in a line for a help text; those of
``fine_tuning.optimizer``, ``fine_tuning.precision`` and ``fine_tuning.checkpoint_activations`` mean
what they mean in training."""
