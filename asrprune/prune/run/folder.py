"""The folder of a family: ``OUT`` appears only when all sizes are in it.

Until then the run works in ``OUT.pruning`` beside it, which holds ``plan.json`` (what makes the run
what it is), ``state.pt`` (where it stands, see ``state``), ``family.json`` and the members that are
there already, each whole: ``OUT.pruning/sparsity-S`` can be scored while smaller sizes are on
their way. At the end the folder gets its name, without the state. All files carry checksums; what a
damaged one held is done again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import torch

from asrprune.core.checksums import read_sealed, write_sealed
from asrprune.core.resume import (
    check_same_run,
    read_identity,
    read_state,
    remove_leftovers,
)
from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.files.locks import remove
from asrprune.lm.model.checkpoint import check_checkpoint
from asrprune.prune.run.family import FAMILY, Family, Member, read_family
from asrprune.prune.run.state import STATE, SavedState, load_state

PLAN = "plan.json"
_OLD_STATE = "state"
"""The folder of an unfinished run of earlier versions, which worked in ``OUT`` itself."""
_EXPECTED = "an empty or new folder, or a run of `prune`"

log = logging.getLogger(__name__)


class FamilyFolder:
    """``OUT`` and ``OUT.pruning`` of one run. ``identity`` (plain JSON) tells one from another."""

    def __init__(self, out: PathLike, identity: Mapping[str, Any]) -> None:
        self.out = Path(os.path.realpath(out)) if os.path.islink(out) else Path(out)
        self.work = self.out.with_name(self.out.name + ".pruning")
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))

    def has_begun(self) -> bool:
        """Whether there is a member, or a state within one, that a killed run would go on from."""
        return any((self.work / name).is_file() for name in (FAMILY, STATE))

    def finished(self) -> Optional[Family]:
        """The family in ``OUT`` if it is the result of this very run, None if there is nothing.

        Raises AnotherRunError for that of another run, InputError for anything else.
        """
        if not self.out.exists():
            return None
        if not self.out.is_dir():
            raise InputError(self.out, None, "a file", _EXPECTED)
        if not any(self.out.iterdir()):
            return None
        if not (self.out / PLAN).is_file():
            raise InputError(self.out, None, "a folder with other files", _EXPECTED)
        check_same_run(self.out, read_sealed(self.out / PLAN), self.identity)
        if (self.out / FAMILY).is_file() and not (self.out / _OLD_STATE).exists():
            family = read_family(self.out)
            if {member.asked for member in family.members} == set(self._sizes):
                return family
        if self.work.exists():
            found = f"a part of a family, as is {self.work.name}"
            raise InputError(self.out, None, found, "one of them at most")
        log.warning("%s is unfinished, of an earlier version: going on in %s", self.out, self.work)
        os.replace(self.out, self.work)
        return None

    def begin(self, device: torch.device) -> tuple[Optional[Family], Optional[SavedState]]:
        """The family so far and where the run stands; None for what is not there or, with a
        warning, damaged.

        Raises AnotherRunError when ``OUT.pruning`` belongs to another run, InputError when it holds
        anything else.
        """
        plan = self.work / PLAN
        if self.work.exists() and not self.work.is_dir():
            raise InputError(self.work, None, "a file", _EXPECTED)
        self.work.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.work)
        stated = read_identity(plan)
        if stated is not None:
            check_same_run(self.work, stated, self.identity)
        state = load_state(self.work, self.identity, device)
        if stated is None and state is None:  # whose it was is not known
            if not plan.is_file() and any(self.work.iterdir()):
                raise InputError(self.work, None, "a folder with other files", _EXPECTED)
            for place in self.work.iterdir():
                if place != plan:  # which stays damaged until all is gone
                    remove(place)
        if stated is None:
            write_sealed(plan, self.identity)
        path = self.work / FAMILY
        return read_state(path, lambda: read_family(self.work)) if path.is_file() else None, state

    def drop(self, state: bool) -> None:
        """Remove ``OUT.pruning`` if it is of this run and holds nothing but, with ``state``, a
        state: another plan may have the name."""
        plan = self.work / PLAN
        if not plan.is_file() or read_identity(plan) != self.identity:
            return
        names = {place.name for place in self.work.iterdir()}
        if names <= {PLAN, FAMILY, *([STATE] if state else [])}:
            remove(self.work)

    def is_whole(self, member: Member) -> bool:
        """Whether its checkpoint is as it was written; a warning says that it is not."""
        place = self.work / member.folder
        return read_state(place, lambda: check_checkpoint(place)) is not None

    def finish(self, family: Family) -> None:
        """Give the folder its name, without what only a resume needs."""
        members = {member.folder for member in family.members}
        for place in (*self.work.glob("sparsity-*"), self.work / _OLD_STATE, self.work / STATE):
            if place.name not in members:
                remove(place)
        remove_leftovers(self.work)
        os.replace(self.work, self.out)

    @property
    def _sizes(self) -> list[float]:
        sizes: list[float] = self.identity["plan"]["sparsities"]
        return sizes
