"""A family of sizes on disk, saved step by step, such that a killed run resumes where it was."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from asrprune.core.resume import check_same_run
from asrprune.errors import InputError
from asrprune.files import PathLike, read_json, write_json
from asrprune.lm.model.checkpoint import Checkpoint, save_checkpoint
from asrprune.lm.model.transformer import TransformerLM, count_nonzero, count_parameters
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
from asrprune.prune.run.scorer import PruningData
from asrprune.prune.run.state import STATE, drop_state, load_state, save_state
from asrprune.prune.run.steps import PrunedLM, PruningRun, valid_perplexity

PLAN = "plan.json"

log = logging.getLogger(__name__)


class FamilyRun:
    """One call of ``prune_family``: a run with the folder that it writes to."""

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
        self.out = Path(out)
        self.provenance = provenance
        self.run = PruningRun(parent.model, data, plan, parent.history, teacher)

    def go(self, family: Family) -> Family:
        """Make the members that the family lacks, writing each as soon as it is there."""
        lacking = set(self.run.plan.sparsities) - {member.asked for member in family.members}
        if not lacking and not (self.out / STATE).exists():
            log.info("%s: finished already, nothing to do", self.out)
            return family
        for number, steps in enumerate(self.run.runs()):
            asked = [step.member for step in steps if step.member is not None]
            done = {member.asked for member in family.members}
            state = load_state(self.out, number, self.parent.model.device)
            if state is None and set(asked) <= done:
                continue
            if state is None:
                state = self.run.fresh_state()
            else:
                log.info("resuming after step %d of %d", state.steps_done, len(steps))
            while state.steps_done < len(steps):
                made = self.run.step(state, steps)
                if made is not None:
                    member = self._save_member(made, bool(state.masks))
                    family = family.with_member(member)
                    write_family(self.out, family)
                    log.info("sparsity %g\n%s", member.asked, matrix_table(member))
                save_state(self.out, number, state, self.parent.tokenizer_path)
        drop_state(self.out)
        return family

    def _save_member(self, made: PrunedLM, masked: bool) -> Member:
        folder = self.out / folder_name(made.asked)
        plan, data = self.run.plan, self.run.data
        provenance = {**self.provenance, "plan": plan.to_dict()}
        tokenizer = self.parent.tokenizer_path
        form = self.parent.form
        save_checkpoint(folder, made.model, tokenizer, provenance, made.history, form)
        sizes = measure_member(folder, self.run.reference, masked)
        before, spent = made.perplexity_pruned, made.spent
        return Member(
            asked=made.asked,
            folder=folder.name,
            faster=not masked,
            perplexity_pruned=before,
            perplexity=valid_perplexity(made.model, data, plan) if spent.tokens else before,
            tokens=spent.tokens,
            steps=spent.steps,
            wall_s=round(spent.wall_s, 3),
            fine_tuned=spent.tokens > 0,
            **sizes,
        )


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

    Raises AnotherRunError when ``out`` belongs to another run, InputError when it holds anything
    else, ValueError when a size is out of reach.
    """
    family_run = FamilyRun(parent, data, plan, out, provenance, teacher)
    family_run.run.check_start()
    plan = family_run.run.plan
    if plan.fine_tune_tokens == 0:
        log.warning("no fine-tuning: every size is worse than it need be (--fine-tune-tokens)")
    folder = Path(out)
    same = {"plan": plan.to_dict(), **identity}
    if (folder / PLAN).is_file():
        check_same_run(folder, read_json(folder / PLAN), same)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        found = "a folder with other files" if folder.is_dir() else "a file"
        raise InputError(folder, None, found, "an empty or new folder, or a run of `prune`")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / PLAN, same)
    if (folder / FAMILY).is_file():
        family = read_family(folder)
    else:
        family = Family(plan.to_dict(), _parent_row(family_run), (), provenance)
        write_family(folder, family)
    family = family_run.go(family)
    plot_if_possible(folder, family)
    log.info("%s", family_table(family))
    return family


def _parent_row(family_run: FamilyRun) -> dict[str, Any]:
    run, model = family_run.run, family_run.parent.model
    rows = matrix_rows(model, run.reference, bool(run.start_masks))
    return {
        "measured": measured(rows),
        "prunable_parameters": run.total,
        "parameters": count_parameters(model),
        "nonzero_parameters": count_nonzero(model),
        "bytes": family_run.parent.size_bytes(),
        "perplexity": valid_perplexity(model, run.data, run.plan),
    }
