"""The run: prune, recover, save, step by step, such that a killed run goes on where it was."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import torch

from asrprune.core.config import first_difference
from asrprune.errors import InputError
from asrprune.files import PathLike, read_json, write_json
from asrprune.lm.model.checkpoint import Checkpoint, save_checkpoint
from asrprune.lm.model.layers import DenseLinear
from asrprune.lm.model.transformer import TransformerLM, count_nonzero, count_parameters
from asrprune.lm.training.batches import BatchStream
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.masks import Masks, matrix_key
from asrprune.prune.methods import METHODS
from asrprune.prune.methods.method import kept_parameters, prunable_parameters
from asrprune.prune.run.family import (
    FAMILY,
    Family,
    Member,
    family_table,
    folder_name,
    matrix_rows,
    matrix_table,
    measure_member,
    measured,
    read_family,
    write_family,
)
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.plot import plot_if_possible
from asrprune.prune.run.recovery import Spent, perplexity_per_token, recover
from asrprune.prune.run.schedules import PruningStep, budget_until, one_run
from asrprune.prune.run.scorer import DataScorer, PruningData
from asrprune.prune.run.state import RunState, drop_state, load_state, save_state
from asrprune.prune.surgery.embedding import factor_embedding

PLAN = "plan.json"

log = logging.getLogger(__name__)


class FamilyRun:
    """One call of ``prune_family``: parent, plan, data, output folder, and what to learn from."""

    def __init__(
        self,
        parent: Checkpoint,
        data: PruningData,
        plan: Plan,
        out: PathLike,
        provenance: Mapping[str, Any],
        teacher: Optional[TransformerLM] = None,
    ) -> None:
        self.parent = parent
        self.teacher = parent.model if teacher is None else teacher
        self.data = data
        self.plan = plan
        self.out = Path(out)
        self.provenance = provenance
        self.method = METHODS[plan.method]
        self.reference = _reference(parent, plan)
        self.total = sum(self.reference.values())
        self.start_masks = _masks_of(parent, plan)
        self.start = self._sparsity(parent.model, self.start_masks)

    def runs(self) -> list[list[PruningStep]]:
        """The runs that make the family: one for each size with one-shot, else one for all."""
        sizes = sorted(self.plan.sparsities)
        if self.plan.schedule == "one-shot":
            return [[PruningStep(size, size)] for size in sizes]
        return [one_run(self.plan.schedule, self.plan.steps, self.start, sizes)]

    def check_start(self) -> None:
        """Raises ValueError for a size that the parent is already below."""
        smallest = min(self.plan.sparsities)
        if smallest < self.start - 1e-9:
            raise ValueError(
                f"sparsity {smallest:g} is asked of a model that has {self.start:.4f} already; "
                "expected more"
            )

    def go(self, family: Family) -> Family:
        """Make the members that the family lacks, writing each as soon as it is there."""
        for number, steps in enumerate(self.runs()):
            asked = [step.member for step in steps if step.member is not None]
            done = {member.asked for member in family.members}
            state = load_state(self.out, number, self.parent.model.positions.device)
            if state is None and set(asked) <= done:
                continue
            if state is None:
                state = self._fresh_state()
            else:
                log.info("going on after step %d of %d", state.steps_done, len(steps))
            while state.steps_done < len(steps):
                member = self._step(state, steps)
                if member is not None:
                    family = family.with_member(member)
                    write_family(self.out, family)
                    log.info("sparsity %g\n%s", member.asked, matrix_table(member))
                save_state(self.out, number, state, self.parent.tokenizer_path)
            drop_state(self.out)
        return family

    def _fresh_state(self) -> RunState:
        model = copy.deepcopy(self.parent.model)
        masks = {key: mask.clone() for key, mask in self.start_masks.items()}
        rank = self.plan.options.embedding_rank
        if rank:
            batches = DataScorer(self.plan, self.data, 0).batches(model)
            model.embedding = factor_embedding(model, rank, batches, self.plan.statistics_tokens)
        return RunState(model, masks, list(self.parent.history))

    def _step(self, state: RunState, steps: Sequence[PruningStep]) -> Optional[Member]:
        step = steps[state.steps_done]
        torch.manual_seed(self.plan.seed * 1_000_003 + state.steps_done)  # the same after a resume
        started = time.monotonic()
        keep = self.total - round(step.sparsity * self.total)
        scorer = DataScorer(self.plan, self.data, state.steps_done, state.movement)
        self.method.apply(state.model, keep, scorer, self.plan.options, state.masks)
        pruned_s = time.monotonic() - started
        before = self._valid_perplexity(state.model) if step.member is not None else None
        spent = self._recover(state, steps)
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
        state.history.append(self._record(step, now, spent, pruned_s))
        state.steps_done += 1
        return None if step.member is None else self._save_member(state, step.member, before)

    def _recover(self, state: RunState, steps: Sequence[PruningStep]) -> Spent:
        plan = self.plan
        until = budget_until(
            steps, state.steps_done + 1, plan.fine_tune_tokens, plan.hold, plan.growth
        )
        tokens = until - state.spent.tokens  # whole batches: steps before may have spent more
        if tokens <= 0:
            return Spent()
        positions = state.model.positions.shape[0]
        budget = self.plan.recovery.batch_tokens
        batches = BatchStream(self.data.train, budget, self.plan.seed, positions)
        if state.batches:
            batches.load_state(state.batches)
        teacher = self.teacher if plan.recovery.distill else None
        state.movement = {}
        accumulates = "movement" in CRITERIA[self.plan.criterion].needs
        spent = recover(
            state.model,
            batches,
            tokens,
            self.plan.recovery,
            state.masks,
            teacher,
            self.plan.seed,
            state.movement if accumulates else None,
        )
        state.batches = batches.state()
        return spent

    def _save_member(self, state: RunState, asked: float, before: Optional[float]) -> Member:
        folder = self.out / folder_name(asked)
        provenance = {**self.provenance, "plan": self.plan.to_dict()}
        tokenizer = self.parent.tokenizer_path
        save_checkpoint(folder, state.model, tokenizer, provenance, tuple(state.history))
        sizes = measure_member(folder, self.reference, bool(state.masks))
        return Member(
            asked=asked,
            folder=folder.name,
            faster=not state.masks,
            perplexity_pruned=before,
            perplexity=self._valid_perplexity(state.model) if state.spent.tokens else before,
            tokens=state.spent.tokens,
            steps=state.spent.steps,
            wall_s=round(state.spent.wall_s, 3),
            **sizes,
        )

    def _record(
        self, step: PruningStep, now: float, spent: Spent, pruned_s: float
    ) -> dict[str, Any]:
        """An entry of the checkpoint's history."""
        return {
            "criterion": self.plan.criterion,
            "method": self.plan.method,
            "schedule": self.plan.schedule,
            "masks": self.method.masks,
            "asked": step.sparsity,
            "measured": now,
            "reference": dict(self.reference),
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
        return valid_perplexity(model, self.data, self.plan)


def prune_family(
    parent: Checkpoint,
    data: PruningData,
    plan: Plan,
    out: PathLike,
    provenance: Mapping[str, Any],
    identity: Mapping[str, Any],
    teacher: Optional[TransformerLM] = None,
) -> Family:
    """All sizes of the plan, saved as ``out/sparsity-S`` with ``out/family.json``.

    Distillation is from ``teacher``, by default the parent: a run that starts at a pruned member
    learns more from the dense LM.
    ``identity`` says what besides the plan makes a run the same (hashes of LM and data). An
    ``out`` that holds part of the same run is completed, step by step exactly as an uninterrupted
    run on the same machine would have been.

    Raises InputError when ``out`` holds anything else, ValueError when a size is out of reach.
    """
    run = FamilyRun(parent, data, plan, out, provenance, teacher)
    run.check_start()
    folder = Path(out)
    same = {"plan": plan.to_dict(), **identity}
    if (folder / PLAN).is_file():
        _check_same(folder / PLAN, same)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        found = "a folder with other files" if folder.is_dir() else "a file"
        raise InputError(folder, None, found, "an empty or new folder, or a run of `prune`")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / PLAN, same)
    if (folder / FAMILY).is_file():
        family = read_family(folder)
    else:
        family = Family(plan.to_dict(), _parent_row(run), (), provenance)
        write_family(folder, family)
    family = run.go(family)
    plot_if_possible(folder, family)
    log.info("%s", family_table(family))
    return family


def valid_perplexity(model: TransformerLM, data: PruningData, plan: Plan) -> Optional[float]:
    """Perplexity per token of the valid set; None without one."""
    if data.valid is None:
        return None
    value = perplexity_per_token(model, data.valid, plan.recovery.batch_tokens)
    return value if math.isfinite(value) else None


def _parent_row(run: FamilyRun) -> dict[str, Any]:
    model = run.parent.model
    rows = matrix_rows(model, run.reference, bool(run.start_masks))
    return {
        "measured": measured(rows),
        "prunable_parameters": run.total,
        "parameters": count_parameters(model),
        "nonzero_parameters": count_nonzero(model),
        "bytes": run.parent.size_bytes(),
        "perplexity": valid_perplexity(model, run.data, run.plan),
    }


def _reference(parent: Checkpoint, plan: Plan) -> dict[str, int]:
    """Prunable parameters of the dense ancestor: sparsity is counted from there."""
    now = prunable_parameters(parent.model, plan.options.matrices)
    first = parent.history[0].get("reference") if parent.history else None
    if not isinstance(first, Mapping):
        return now
    return {key: max(int(first.get(key, count)), count) for key, count in now.items()}


def _masks_of(parent: Checkpoint, plan: Plan) -> Masks:
    """Masks of a parent that was pruned with masks: its zeros stay."""
    if not any(step.get("masks") for step in parent.history):
        return {}
    return {
        matrix_key(index, name): linear.weight.detach() != 0
        for index, name, linear in parent.model.linears()
        if isinstance(linear, DenseLinear) and name in plan.options.matrices
    }


def _check_same(path: Path, same: Mapping[str, Any]) -> None:
    differing = first_difference(read_json(path), same)
    if differing:
        found = f"a run that differs in {differing}"
        raise InputError(path.parent, None, found, "the same command, or another --out")
