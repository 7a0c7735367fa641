"""The folder ``OUT.training`` beside a training run's ``OUT``: what a killed run resumes from.

``OUT`` itself appears only when training has ended, whole, so its presence means that it is done.
The folder holds ``run.json`` (what makes the run what it is), ``state.pt`` (model, optimiser,
position), ``best-STEP/`` (the best checkpoint so far), ``train.jsonl`` (the log, a JSON object a
line) and ``tensorboard/``. After the end ``state.pt`` and ``best-STEP/`` are gone, and ``last/``
holds the last step's model if another one was better. All but ``tensorboard/`` carry checksums.
What a damaged file held is done again; only a damaged line of the log is left out.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

from asrprune.core.checksums import sealed_line, write_sealed
from asrprune.core.record import Record, a_count, an_object, parse_record
from asrprune.core.resume import (
    AnotherRunError,
    check_same_run,
    difference,
    read_identity,
    read_state,
    remove_at_once,
    remove_leftovers,
)
from asrprune.errors import InputError
from asrprune.files import PathLike, append_text, raw_lines, write_text
from asrprune.lm.model.checkpoint import check_checkpoint, is_checkpoint, read_config
from asrprune.lm.state_file import read_state_file, write_state

RUN, STATE, LOG, BEST, LAST = "run.json", "state.pt", "train.jsonl", "best", "last"
_PARTS = ("loop", "window", "best_step", "best_nats")

log = logging.getLogger(__name__)


def state_folder(out: PathLike) -> Path:
    """``OUT.training`` of the checkpoint ``OUT``."""
    target = Path(out)
    return target.with_name(target.name + ".training")


def remove_run(out: PathLike) -> None:
    """Remove the checkpoint ``OUT`` of a run and its ``OUT.training``; what is neither stays."""
    target, state = Path(out), state_folder(out)
    remove_at_once(target, is_checkpoint(target))
    remove_at_once(state, (state / RUN).is_file() or (state / STATE).is_file())


class TrainingFolder:
    """``OUT.training`` of one run. ``identity`` (plain JSON) tells one run from another."""

    def __init__(self, out: PathLike, identity: Mapping[str, Any]) -> None:
        self.out = Path(out)
        self.path = state_folder(out)
        self.identity = identity

    def best(self, step: int) -> Path:
        """The checkpoint of ``step``, the best so far.

        Each has its own name, so that the one that the saved state speaks of is there until the
        next state is saved.
        """
        place, old = self.path / f"{BEST}-{step}", self.path / BEST  # of earlier versions
        return old if old.is_dir() and not place.is_dir() else place

    @property
    def last(self) -> Path:
        """The last step's checkpoint of a finished run."""
        return self.path / LAST

    def is_finished(self) -> bool:
        """Whether ``OUT`` is the result of this very run.

        Raises ValueError when ``OUT`` holds something else: it is never replaced.
        """
        if not self.out.exists():
            return False
        if is_checkpoint(self.out):
            made = read_config(self.out)
            origin = made.find("provenance", an_object) or {}
            training = Record(made.path, origin, "provenance.").find("training", an_object) or {}
            self._refuse_change(self.out, training.get("run"))
            return True
        raise ValueError(f"{self.out} exists and is no checkpoint; choose another --out")

    def load(self) -> Optional[dict[str, Any]]:
        """The saved state of this run, None if there is none yet.

        None, with a warning, for one that is damaged, or that lost its best checkpoint. Raises
        ValueError when the folder belongs to a run with another configuration or data.
        """
        run = read_identity(self.path / RUN)
        if run is not None:
            self._refuse_change(self.path, run)
        if not (self.path / STATE).is_file():
            return None
        state = read_state(self.path / STATE, self._read)
        if state is None:
            return None
        self._refuse_change(self.path, state.get("identity", self.identity))
        if step := state["best_step"]:
            best = self.best(step)
            if read_state(best, lambda: check_checkpoint(best)) is None:
                return None
        return state

    def _read(self) -> dict[str, Any]:
        state = read_state_file(self.path / STATE)
        for part in _PARTS:
            if part not in state:
                raise InputError(self.path / STATE, None, f"no {part}", "the state of a training")
        return state

    def start(self, step: int, best_step: int) -> None:
        """Note the run's identity, and cut the log back to ``step`` (0: a fresh log)."""
        write_sealed(self.path / RUN, dict(self.identity))
        remove_leftovers(self.path)
        remove_at_once(self.path, wanted=False)
        if step == 0:
            (self.path / STATE).unlink(missing_ok=True)
            shutil.rmtree(self.last, ignore_errors=True)
        self._keep_best(best_step)
        lines = [] if step == 0 else list(self._log_until(step))
        with write_text(self.path / LOG) as stream:
            stream.writelines(f"{line}\n" for line in lines)

    def _log_until(self, step: int) -> Iterator[str]:
        """The log's lines of the steps up to ``step``."""
        path = self.path / LOG
        if not path.is_file():
            return
        with open(path, "rb") as stream:
            for number, raw in enumerate(raw_lines(path, stream), start=1):
                if not raw.endswith(b"\n"):
                    return  # it was being written when the run was killed
                try:
                    line = raw.decode("utf-8").rstrip("\n")
                    if parse_record(path, number, line).get("step", a_count) <= step:
                        yield line
                except (InputError, UnicodeDecodeError) as problem:
                    reason = problem.found if isinstance(problem, InputError) else problem
                    log.warning("%s:%d is damaged and left out (%s)", path, number, reason)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the saved state."""
        write_state(self.path / STATE, {**state, "identity": json.loads(json.dumps(self.identity))})
        self._keep_best(state["best_step"])

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line to the log."""
        with append_text(self.path / LOG) as stream:
            stream.write(sealed_line(json.dumps(record)) + "\n")

    def finish(self) -> None:
        """Remove what only a resume needs, unless it is another run's."""
        if self.path.is_dir() and not difference(read_identity(self.path / RUN), self.identity):
            (self.path / STATE).unlink(missing_ok=True)
            self._keep_best(0)
            remove_leftovers(self.path)

    def _keep_best(self, step: int) -> None:
        """Remove the best checkpoints of other steps."""
        kept = self.best(step) if step else None
        for place in (self.path / BEST, *self.path.glob(f"{BEST}-*")):
            if place != kept:
                shutil.rmtree(place, ignore_errors=True)

    def _refuse_change(self, where: Path, other: Any) -> None:
        try:
            check_same_run(where, other, self.identity)
        except AnotherRunError as problem:  # bad usage here, as an OUT that is no checkpoint
            raise ValueError(str(problem)) from None
