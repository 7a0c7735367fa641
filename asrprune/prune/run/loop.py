"""A family of sizes on disk, saved step by step, such that a killed run resumes where it was."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from asrprune.files import PathLike, locked
from asrprune.lm.device import without_denormals
from asrprune.lm.model.checkpoint import Checkpoint, save_checkpoint
from asrprune.lm.model.transformer import TransformerLM, count_nonzero, count_parameters
from asrprune.lm.training.distributed import ProcessGroup
from asrprune.prune.masks import matrices_are_masked
from asrprune.prune.methods.method import UnreachableError
from asrprune.prune.run.family import (
    ELASTIC,
    Family,
    Member,
    family_table,
    folder_name,
    matrix_rows,
    matrix_table,
    measure_member,
    measured,
    write_family,
)
from asrprune.prune.run.folder import FamilyFolder
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.schedules import PruningStep
from asrprune.prune.run.scorer import PruningData
from asrprune.prune.run.state import RunState, from_first, save_state
from asrprune.prune.run.steps import PrunedLM, PruningRun, valid_perplexity

Describe = Callable[[Path], None]

log = logging.getLogger(__name__)


class FamilyRun:
    """One call of ``prune_family``: a run with the folder that it writes to."""

    def __init__(
        self,
        parent: Checkpoint,
        run: PruningRun,
        folder: FamilyFolder,
        made: Mapping[str, Any],
        describe: Optional[Describe] = None,
    ) -> None:
        self.parent = parent
        self.run = run
        self.folder = folder
        self.provenance = made
        self.describe = describe

    def go(self) -> Family:
        """Make all members, writing each as soon as it is there."""
        group = self.run.group
        family, saved = None, None
        if group.is_first:
            family, saved = self.folder.begin(group.device)
        family = group.from_first(lambda: family)
        saved = from_first(group, saved)
        if family is None:
            family = Family(self.run.plan.to_dict(), self._parent_row(), (), self.provenance)
            self._write(family)
        members = family.members
        done = group.from_first(lambda: {m.asked for m in members if self.folder.is_whole(m)})
        for number, steps in enumerate(self.run.runs()):
            state = saved[1] if saved is not None and saved[0] == number else None
            if state is not None and not _sizes(steps[: state.steps_done]) <= done:
                state = None  # members that it made before were damaged
            if state is None and _sizes(steps) <= done:
                continue
            if state is None:
                state = self.run.fresh_state()
            else:
                part = " and within the next" if state.within is not None else ""
                log.info("resuming after step %d of %d%s", state.steps_done, len(steps), part)
            save = functools.partial(self._save_state, number)
            while state.steps_done < len(steps):
                made = self.run.step(state, steps, save)
                if made is not None:
                    for member in self._save(made, matrices_are_masked(state.masks)):
                        family = family.with_member(member)
                        log.info("sparsity %g\n%s", member.asked, matrix_table(member))
                    self._write(family)
                if group.is_first:
                    save(state)
        if group.is_first:
            if self.describe is not None:
                self.describe(self.folder.work)
            self.folder.finish(family)
        return family

    def _save_state(self, number: int, state: RunState) -> None:
        save_state(self.folder.work, number, state, self.folder.identity)

    def _write(self, family: Family) -> None:
        if self.run.group.is_first:
            write_family(self.folder.work, family)

    def _save(self, made: PrunedLM, masked: bool) -> list[Member]:
        """Write its checkpoint; the members that this is, of an elastic LM all sizes."""
        name = folder_name(made.asked) if made.elastic is None else ELASTIC
        folder = self.folder.work / name
        group, parent = self.run.group, self.parent
        before, spent = made.perplexities_pruned, made.spent
        model, elastic = made.model, made.elastic
        provenance = {**self.provenance, "plan": self.run.plan.to_dict()}
        tokenizer, form, stored = parent.tokenizer_path, parent.form, parent.stored

        def save() -> list[dict[str, Any]]:
            save_checkpoint(
                folder, model, tokenizer, provenance, made.history, form, stored, elastic
            )
            cuts = [None] if elastic is None else elastic.sizes
            return [measure_member(folder, self.run.reference, masked, size) for size in cuts]

        rows = group.from_first(save)
        if stored != model.dtype:  # what was rounded is what is judged
            model = copy.deepcopy(model).to(stored).to(model.dtype)
        after = self.run.perplexities(model, made.asked, elastic) if spent.tokens else before
        return [
            Member(
                asked=size,
                folder=name,
                faster=not masked,
                perplexity_pruned=before[size],
                perplexity=after[size],
                tokens=spent.tokens,
                steps=spent.steps,
                wall_s=round(spent.wall_s, 3),
                fine_tuned=spent.tokens > 0,
                **row,
            )
            for size, row in zip(before, rows)
        ]

    def _parent_row(self) -> dict[str, Any]:
        run, model = self.run, self.parent.model
        rows = matrix_rows(model, run.reference, matrices_are_masked(run.start_masks))
        return {
            "measured": measured(rows),
            "shape": model.shape.to_dict(),
            "prunable_parameters": run.total,
            "parameters": count_parameters(model),
            "nonzero_parameters": count_nonzero(model),
            "bytes": self.parent.size_bytes(),
            "perplexity": valid_perplexity(model, run.data, run.plan, run.group),
        }


@without_denormals()
def prune_family(
    parent: Checkpoint,
    data: PruningData,
    plan: Plan,
    out: PathLike,
    provenance: Mapping[str, Any],
    identity: Mapping[str, Any],
    teacher: Optional[TransformerLM] = None,
    group: Optional[ProcessGroup] = None,
    describe: Optional[Describe] = None,
) -> Family:
    """All sizes of the plan, saved as ``out/sparsity-S``, or those of an elastic LM together as
    ``out/elastic``, with ``out/family.json``.

    Distillation is from ``teacher``, by default the parent: a run that starts at a pruned member
    learns more from the dense LM.
    ``describe`` writes more into the folder of the whole family before it gets its name.
    ``identity`` says what besides the plan makes a run the same (hashes of LM and data). ``out``
    appears when all sizes are made; until then they stand in ``OUT.pruning``. What that holds of
    the same run is completed, step by step exactly as an uninterrupted run on the same machine
    would have been; a finished ``out`` is left as it is. The processes of ``group`` share the work,
    and the first of them writes; they may be more or fewer when the run is completed.

    Raises AnotherRunError when ``out`` belongs to another run, InputError when it holds anything
    else, ValueError when a size is out of reach.
    """
    run = PruningRun(parent.model, data, plan, parent.history, teacher, group)
    run.check_start()
    if run.plan.fine_tune_tokens == 0:
        log.warning("no fine-tuning: every size is worse than it need be (--fine-tune-tokens)")
    with locked(out) if run.group.is_first else contextlib.nullcontext():
        folder = FamilyFolder(out, {"plan": run.plan.to_dict(), **identity})
        family = run.group.from_first(folder.finished)
        if family is not None:
            log.info("%s: finished already, nothing to do", out)
        else:
            try:
                family = FamilyRun(parent, run, folder, provenance, describe).go()
            except ValueError as problem:
                if run.group.is_first:
                    folder.drop(state=isinstance(problem, UnreachableError))
                raise
    log.info("%s", family_table(family))
    return family


def _sizes(steps: Sequence[PruningStep]) -> set[float]:
    """The sizes that these steps deliver."""
    return {step.member for step in steps if step.member is not None}
