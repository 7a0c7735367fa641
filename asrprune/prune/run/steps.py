"""The steps of pruning in memory: prune, fine-tune, and again, down to the sizes asked for."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import torch
from torch import Tensor

from asrprune.lm.model.elastic import Elastic
from asrprune.lm.model.matrices import DenseLinear
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import BatchStream
from asrprune.lm.training.distributed import ProcessGroup
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.masks import EMBEDDING, POSITIONS, Masks, apply_masks
from asrprune.prune.methods import METHODS
from asrprune.prune.methods.choices import refuse_masks
from asrprune.prune.methods.method import kept_parameters, prunable_parameters
from asrprune.prune.run.fine_tuning import (
    Begun,
    Spent,
    fine_tune_pruned,
    learning_curve,
    perplexity_per_token,
)
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.sandwich import PARTS, Sandwich
from asrprune.prune.run.schedules import PruningStep, budget_until, one_run
from asrprune.prune.run.scorer import DataScorer, PruningData
from asrprune.prune.run.state import RunState, Within, take_over
from asrprune.prune.surgery.embedding import check_maskable, embedding_mask, factor_embedding
from asrprune.prune.surgery.positions import check_learned, positions_mask

log = logging.getLogger(__name__)

History = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class PrunedLM:
    """A model of a size that was asked for. ``measured``: fraction of prunable parameters removed.

    ``perplexities_pruned``: size -> that before fine-tuning, per token of the valid set; None
    without one. It has one size, or all that an ``elastic`` LM holds.
    """

    asked: float
    measured: float
    model: TransformerLM
    history: History
    spent: Spent
    perplexities_pruned: Mapping[float, Optional[float]]
    elastic: Optional[Elastic] = None

    @property
    def perplexity_pruned(self) -> Optional[float]:
        """That of ``asked``."""
        return self.perplexities_pruned[self.asked]


class PruningRun:
    """Parent, plan, data, and what to learn from. ``history``: the pruning steps of the parent.

    The processes of ``group`` all hold parent, data and teacher; they share out the statistics and
    the fine-tuning, and the first one decides what goes.
    """

    def __init__(
        self,
        parent: TransformerLM,
        data: PruningData,
        plan: Plan,
        history: History = (),
        teacher: Optional[TransformerLM] = None,
        group: Optional[ProcessGroup] = None,
    ) -> None:
        self.group = ProcessGroup(device=parent.device) if group is None else group
        self.parent = parent
        self.history = history
        self.teacher = parent if teacher is None else teacher
        self.data = data
        plan = plan.with_budget(data.train.n_tokens + data.train.n_sentences)
        self.plan = plan
        self.method = METHODS[plan.method]
        self.reference = _reference(parent, history, plan)
        self.total = sum(self.reference.values())
        self.start_masks = _masks_of(parent, history)
        self.start = self._sparsity(parent, self.start_masks)

    def runs(self) -> list[list[PruningStep]]:
        """The runs that make the family: one for each size with one-shot, else one for all; that of
        an elastic LM ends with its largest size, which holds the others."""
        sizes = sorted(self.plan.sparsities)
        if self.plan.schedule == "elastic":
            return [[PruningStep(sizes[0], sizes[0])]]
        if self.plan.schedule == "one-shot":
            return [[PruningStep(size, size)] for size in sizes]
        return [one_run(self.plan.schedule, self.plan.steps, self.start, sizes)]

    def check_start(self) -> None:
        """Raises ValueError for a size that the parent is already below, and for a teacher whose
        hidden states are wanted and not as many or as wide."""
        blocks, wanted = ((len(one.blocks), one.width) for one in (self.teacher, self.parent))
        if self.plan.fine_tuning.distill_hidden and blocks != wanted:
            raise ValueError(
                f"the teacher has {blocks[0]} blocks of width {blocks[1]}; expected {wanted[0]} of "
                f"{wanted[1]}, as in the LM, with distill_hidden"
            )
        smallest = min(self.plan.sparsities)
        if smallest < self.start - 1e-9:
            raise ValueError(
                f"sparsity {smallest:g} is asked of a model that has {self.start:.4f} already; "
                "expected more"
            )

    def fresh_state(self) -> RunState:
        """Where a run begins: a copy of the parent."""
        model = copy.deepcopy(self.parent)
        masks = {place: mask.clone() for place, mask in self.start_masks.items()}
        rank = self.plan.options.embedding_rank
        if self.plan.options.embedding_sparsity:
            check_maskable(model)
        if self.plan.options.positions_sparsity:
            check_learned(model)
        if rank:
            masks.pop(EMBEDDING, None)
            batches = DataScorer(self.plan, self.data, 0).batches(model)
            tokens = self.plan.statistics_tokens
            model.embedding = factor_embedding(model, rank, batches, tokens, self.group)
        state = RunState(model, masks, list(self.history))
        take_over(self.group, state)
        return state

    def step(
        self,
        state: RunState,
        steps: Sequence[PruningStep],
        save: Optional[Callable[[RunState], None]] = None,
    ) -> Optional[PrunedLM]:
        """Make the next of ``steps`` in place; what it delivers if a size is asked for there.
        ``save`` gets the state from time to time in the first process, within a long step."""
        step = steps[state.steps_done]
        within = self._pruned(state, step) if state.within is None else state.within
        elastic, before, pruned_s = within.elastic, within.perplexities, within.pruned_s
        losses: list[tuple[int, float]] = []
        spent = self._fine_tune(state, steps, losses, within, save)
        state.within = None
        state.spent = state.spent + spent
        now = self._sparsity(state.model, state.masks)
        log.info(
            "step %d of %d: sparsity %.4f (asked %.4f), %d tokens, %.1f s",
            state.steps_done + 1,
            len(steps),
            now,
            step.sparsity,
            spent.tokens,
            pruned_s + spent.wall_s,
        )
        record = self._record(step, now, spent, pruned_s)
        state.history.append({**record, "losses": learning_curve(losses)})
        state.steps_done += 1
        if step.member is None:
            return None
        history = tuple(state.history)
        return PrunedLM(step.member, now, state.model, history, state.spent, before, elastic)

    def _pruned(self, state: RunState, step: PruningStep) -> Within:
        """Make the step but for its fine-tuning."""
        torch.manual_seed(self.plan.seed * 1_000_003 + state.steps_done)  # the same after a resume
        started = time.monotonic()
        state.model.checkpoint_activations = self.plan.fine_tuning.checkpoint_activations
        scorer = DataScorer(self.plan, self.data, state.steps_done, state.movement, self.group)
        elastic = self._prune(state, step, scorer)
        take_over(self.group, state)
        pruned_s = time.monotonic() - started
        return Within(elastic, self.perplexities(state.model, step.member, elastic), pruned_s)

    def perplexities(
        self, model: TransformerLM, member: Optional[float], elastic: Optional[Elastic]
    ) -> dict[float, Optional[float]]:
        """Perplexity per token of the valid set of the size ``member``, if it is one that was asked
        for, or of every size of an elastic LM."""
        if elastic is None:
            return {} if member is None else {member: self._valid_perplexity(model)}
        found = {}
        for size in elastic.sizes:
            elastic.use(model, elastic.steps_at(size))
            found[size] = self._valid_perplexity(model)
        elastic.use(model, None)
        return found

    def _prune(self, state: RunState, step: PruningStep, scorer: DataScorer) -> Optional[Elastic]:
        """Prune in place; of an elastic LM, in which order the rest leaves."""
        plan, made = self.plan, None
        tables = self._table_masks()
        for table in tables:
            state.masks.pop(table, None)  # chosen anew: the method may change the table
        if plan.schedule != "elastic":
            keep = self.total - round(step.sparsity * self.total)
            self.method.apply(state.model, keep, scorer, plan.options, state.masks)
        else:
            assert self.method.elastic is not None  # Plan checks it
            refuse_masks(state.masks)
            sizes = plan.sparsities
            made = self.method.elastic(state.model, sizes, self.total, scorer, plan.options)
            made = self.group.from_first(lambda: made)
        for table, (choose, sparsity) in tables.items():
            model, tokens = state.model, plan.statistics_tokens
            kept = choose(model, sparsity, scorer.batches(model), tokens, self.group)
            state.masks[table] = kept
            apply_masks(model, {table: kept})
            log.info("%s: %d of %d weights stay", table.name, int(kept.sum()), kept.numel())
        return made

    def _table_masks(self) -> dict[Place, tuple[Callable[..., Tensor], float]]:
        """What chooses the weights that stay in each table that gets zeros, and its sparsity."""
        options = self.plan.options
        chosen = {
            EMBEDDING: (embedding_mask, options.embedding_sparsity),
            POSITIONS: (positions_mask, options.positions_sparsity),
        }
        return {table: one for table, one in chosen.items() if one[1]}

    def _fine_tune(
        self,
        state: RunState,
        steps: Sequence[PruningStep],
        losses: list[tuple[int, float]],
        within: Within,
        save: Optional[Callable[[RunState], None]],
    ) -> Spent:
        plan, elastic = self.plan, within.elastic
        until = budget_until(
            steps, state.steps_done + 1, plan.fine_tune_tokens or 0, plan.hold, plan.growth
        )
        tokens = until - state.spent.tokens  # whole batches: steps before may have spent more
        if tokens <= 0:
            return Spent()
        positions = state.model.max_positions
        fine_tuning = plan.fine_tuning
        if steps[state.steps_done].member is None:
            fine_tuning = fine_tuning.between_sizes()
        budget = fine_tuning.batch_tokens
        if elastic is not None:
            budget = max(budget // PARTS, min(budget, positions))
        group = self.group
        batches = BatchStream(
            self.data.train, budget, plan.seed, positions, group.rank, group.world
        )
        if state.batches:
            batches.load_state(state.batches)
        state.model.checkpoint_activations = fine_tuning.checkpoint_activations
        teacher = self.teacher if fine_tuning.distill else None
        state.movement = {}
        accumulates = "movement" in CRITERIA[self.plan.criterion].needs

        def save_within(begun: Begun) -> None:
            if save is not None and group.is_first:
                save(replace(state, within=replace(within, begun=begun)))

        spent = fine_tune_pruned(
            state.model,
            batches,
            tokens,
            fine_tuning,
            state.masks,
            teacher,
            self.plan.seed,
            state.movement if accumulates else None,
            group,
            losses,
            None if elastic is None else Sandwich(elastic, plan.seed),
            within.begun,
            save_within,
        )
        state.batches = batches.state()
        return spent

    def _record(
        self, step: PruningStep, now: float, spent: Spent, pruned_s: float
    ) -> dict[str, Any]:
        """An entry of the checkpoint's history."""
        return {
            "criterion": self.plan.criterion,
            "method": self.plan.method,
            "schedule": self.plan.schedule,
            "masks": self.method.masks,
            "embedding_sparsity": self.plan.options.embedding_sparsity,
            "positions_sparsity": self.plan.options.positions_sparsity,
            "asked": step.sparsity,
            "measured": now,
            "reference": {str(place): count for place, count in self.reference.items()},
            "statistics_tokens": self.plan.statistics_tokens,
            "fine_tune_tokens": spent.tokens,
            "fine_tune_steps": spent.steps,
            "fine_tune_s": round(spent.wall_s, 3),
            "prune_s": round(pruned_s, 3),
        }

    def _sparsity(self, model: TransformerLM, masks: Masks) -> float:
        kept = sum(kept_parameters(model, self.plan.options.matrices, masks).values())
        return 1.0 - kept / self.total if self.total else 0.0

    def _valid_perplexity(self, model: TransformerLM) -> Optional[float]:
        return valid_perplexity(model, self.data, self.plan, self.group)


def prune_in_memory(
    parent: TransformerLM,
    data: PruningData,
    plan: Plan,
    history: History = (),
    teacher: Optional[TransformerLM] = None,
) -> Iterator[PrunedLM]:
    """All sizes of the plan, one after the other, each a model of its own; ``parent`` is not
    changed. Raises ValueError when a size is out of reach."""
    run = PruningRun(parent, data, plan, history, teacher)
    run.check_start()
    for steps in run.runs():
        state = run.fresh_state()
        while state.steps_done < len(steps):
            made = run.step(state, steps)
            if made is not None:
                yield PrunedLM(**{**vars(made), "model": copy.deepcopy(made.model)})


def valid_perplexity(
    model: TransformerLM, data: PruningData, plan: Plan, group: Optional[ProcessGroup] = None
) -> Optional[float]:
    """Perplexity per token of the valid set; None without one."""
    if data.valid is None:
        return None
    value = perplexity_per_token(model, data.valid, plan.fine_tuning.batch_tokens, group)
    return value if math.isfinite(value) else None


def _reference(parent: TransformerLM, history: History, plan: Plan) -> dict[Place, int]:
    """Prunable parameters of the dense ancestor: sparsity is counted from there."""
    now = prunable_parameters(parent, plan.options.matrices)
    first = history[0].get("reference") if history else None
    if not isinstance(first, Mapping):
        return now
    return {place: max(int(first.get(str(place), count)), count) for place, count in now.items()}


def _masks_of(parent: TransformerLM, history: History) -> Masks:
    """Masks of a parent that was pruned with masks: its zeros stay, also those of matrices that are
    not pruned now."""
    masks = {}
    if any(step.get("masks") for step in history):
        for place, linear in parent.linears():
            if isinstance(linear, DenseLinear):
                kept = linear.weight.detach() != 0
                if not kept.all():
                    masks[place] = kept
    if any(step.get("embedding_sparsity") for step in history):
        kept = parent.embedding.weight.detach() != 0
        if not kept.all():  # it may have been factored since
            masks[EMBEDDING] = kept
    if any(step.get("positions_sparsity") for step in history):
        assert parent.positions is not None
        masks[POSITIONS] = parent.positions.detach() != 0
    return masks
