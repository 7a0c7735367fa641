"""Where a result came from: enough to run it again."""

from __future__ import annotations

import datetime
import functools
import platform
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asrprune import __version__


def provenance(command_line: Sequence[str], **more: Any) -> dict[str, Any]:
    """The command, commit, versions, processor and time (UTC) of this run, plus ``more``."""
    import numpy
    import torch

    return {
        "command": shlex.join(command_line),
        "commit": source_commit(),
        "asrprune": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "time_utc": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        **more,
    }


@functools.cache
def source_commit() -> str:
    """The commit of the source tree that this package runs from, or "unknown" when installed; as it
    is when a process first asks."""
    commit = _git("describe", "--always", "--abbrev=12")
    changed = commit and _git("status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changed else commit or "unknown"


def _git(*words: str) -> str:
    """What git prints of the folder of this package, "" where it cannot. Nothing is locked: git
    would leave its lock behind where it is killed, as on a full disk."""
    here = Path(__file__).resolve().parent
    command = ["git", "--no-optional-locks", "-C", str(here), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
