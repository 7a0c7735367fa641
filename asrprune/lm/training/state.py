"""The folder ``OUT.training`` beside a training run's ``OUT``: what a killed run resumes from.

``OUT`` itself appears only when training has ended, whole, so its presence means that it is done.
The folder holds ``run.json`` (what makes the run what it is), ``state.pt`` (model, optimiser,
position), ``best/`` (the best checkpoint so far), ``train.jsonl`` (the log, a JSON object a line)
and ``tensorboard/``. After the end ``state.pt`` and ``best/`` are gone, and ``last/`` holds the
last step's model if another one was better.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import torch

from asrprune.core.record import Record, a_count, an_object, parse_record, read_record
from asrprune.core.resume import AnotherRunError, check_same_run, read_state
from asrprune.core.tensor_file import load_tensors
from asrprune.errors import InputError
from asrprune.files import (
    PathLike,
    read_json,
    read_lines,
    write_binary,
    write_json,
    write_text,
)
from asrprune.lm.model.checkpoint import CONFIG, is_checkpoint

RUN, STATE, LOG, BEST, LAST = "run.json", "state.pt", "train.jsonl", "best", "last"

log = logging.getLogger(__name__)


def remove_run(out: PathLike) -> None:
    """Remove the checkpoint ``OUT`` of a run and its ``OUT.training``; what is neither stays."""
    target = Path(out)
    if is_checkpoint(target):
        shutil.rmtree(target)
    state = target.with_name(target.name + ".training")
    if (state / RUN).is_file():
        shutil.rmtree(state)


class TrainingFolder:
    """``OUT.training`` of one run. ``identity`` (plain JSON) tells one run from another."""

    def __init__(self, out: PathLike, identity: Mapping[str, Any]) -> None:
        self.out = Path(out)
        self.path = self.out.with_name(self.out.name + ".training")
        self.identity = identity

    @property
    def best(self) -> Path:
        """The best checkpoint so far."""
        return self.path / BEST

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
            made = read_record(self.out / CONFIG)
            origin = made.find("provenance", an_object) or {}
            training = Record(made.path, origin, "provenance.").find("training", an_object) or {}
            self._refuse_change(self.out, training.get("run"))
            return True
        raise ValueError(f"{self.out} exists and is no checkpoint; choose another --out")

    def load(self) -> Optional[dict[str, Any]]:
        """The saved state of this run, None if there is none yet.

        None, with a warning, for one that is damaged. Raises ValueError when the folder belongs to
        a run with another configuration or data.
        """
        if (self.path / RUN).is_file():
            self._refuse_change(self.path, read_json(self.path / RUN))
        if not (self.path / STATE).is_file():
            return None

        def read() -> dict[str, Any]:
            return dict(load_tensors(self.path / STATE))

        return read_state(self.path / STATE, read)

    def start(self, step: int) -> None:
        """Note the run's identity, and cut the log back to ``step`` (0: a fresh log)."""
        write_json(self.path / RUN, self.identity)
        lines = self._logged(step) if step > 0 and (self.path / LOG).is_file() else []
        with write_text(self.path / LOG) as stream:
            stream.writelines(f"{line}\n" for line in lines)

    def _logged(self, step: int) -> list[str]:
        """The lines of the log up to ``step``; of a damaged one those before the damage."""
        lines: list[str] = []
        try:
            for number, line in read_lines(self.path / LOG):
                if not line.endswith("}"):
                    break  # the line that was being written when the run was killed
                if parse_record(self.path / LOG, number, line).get("step", a_count) <= step:
                    lines.append(line)
        except InputError as problem:
            log.warning("%s: the log ends here", problem)
        return lines

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the saved state."""
        with write_binary(self.path / STATE) as stream:
            torch.save(dict(state), stream)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line to the log."""
        with open(self.path / LOG, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")

    def finish(self) -> None:
        """Remove what only a resume needs."""
        (self.path / STATE).unlink(missing_ok=True)
        shutil.rmtree(self.best, ignore_errors=True)

    def _refuse_change(self, where: Path, other: Any) -> None:
        try:
            check_same_run(where, other, self.identity)
        except AnotherRunError as problem:  # bad usage here, as an OUT that is no checkpoint
            raise ValueError(str(problem)) from None
