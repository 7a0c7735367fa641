"""The one rule for runs that a kill does not lose.

What makes a run the same is its identity, plain JSON: all that decides its result. It is written
before anything else, next to the state of what is done so far. The same command run again

- goes on from the state of an unfinished run of the same identity,
- leaves a finished one as it is,
- never touches another run's folder: AnotherRunError says in what they differ,
- does again, with a warning, what a damaged state has lost, the identity included,
- removes what a killed process was writing.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Optional, TypeVar

from asrprune.core.checksums import read_sealed
from asrprune.core.config import first_difference, shown
from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.files.locks import remove

State = TypeVar("State")

DAMAGE = (
    InputError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    RuntimeError,  # torch, of archives
    pickle.UnpicklingError,
)
"""What reading a damaged state raises."""

_TEMPORARY = re.compile(r"\..+\.(tmp|old|lock)")

log = logging.getLogger(__name__)


class AnotherRunError(InputError):
    """What is at ``path`` belongs to a run of another identity; ``found`` says how it differs."""

    def __init__(self, path: PathLike, found: str) -> None:
        super().__init__(path, None, found, "the same run")

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return AnotherRunError, (self.path, self.found)

    def __str__(self) -> str:
        return (
            f"{self.path} belongs to another run: {self.found}; remove it or choose another --out"
        )


def difference(there: Any, now: Mapping[str, Any]) -> str:
    """Where the identity that was found ``there`` differs from this run's, "" if it does not.

    >>> difference({"config": {"seed": 1}}, {"config": {"seed": 2}})
    'config.seed is 1 there, 2 now'
    """
    now = json.loads(json.dumps(now))  # tuples are lists in a file
    there = there if isinstance(there, Mapping) else {}
    key = first_difference(now, there)
    return f"{key} is {_shown(there, key)} there, {_shown(now, key)} now" if key else ""


def check_same_run(path: PathLike, there: Any, now: Mapping[str, Any]) -> None:
    """Raise AnotherRunError unless the identity found at ``path`` is this run's."""
    found = difference(there, now)
    if found:
        raise AnotherRunError(path, found)


def read_identity(path: PathLike) -> Optional[Mapping[str, Any]]:
    """The identity in the file ``path``; None when there is none, or, with a warning, a damaged
    one."""

    def read() -> Mapping[str, Any]:
        value = read_sealed(path)
        if not isinstance(value, Mapping):
            raise InputError(path, None, f"a {type(value).__name__}", "a JSON object")
        return value

    return read_state(path, read) if Path(path).is_file() else None


def read_state(path: PathLike, read: Callable[[], State]) -> Optional[State]:
    """What ``read`` makes of the state at ``path``; None, and a warning, if it is damaged."""
    try:
        return read()
    except DAMAGE as problem:
        warn_of_damage(path, problem)
        return None


def warn_of_damage(path: PathLike, problem: object) -> None:
    """Say that what ``path`` holds from here on is done again."""
    reason = " ".join(str(problem).split()) or type(problem).__name__
    log.warning("%s is damaged (%s): what it held is done again", path, reason[:200])


def remove_leftovers(folder: PathLike) -> None:
    """Remove from ``folder`` the temporary names of files and folders that were being written."""
    for place in Path(folder).iterdir():
        if _TEMPORARY.fullmatch(place.name):
            remove(place)


def remove_at_once(folder: Path, wanted: bool = True) -> None:
    """Remove ``folder``, if ``wanted``, under another name, so that a kill leaves it whole or gone;
    and what a killed call left there."""
    aside = folder.with_name(f".{folder.name}.tmp")
    remove(aside)
    if wanted:
        os.replace(folder, aside)
        remove(aside)


def _shown(values: Mapping[str, Any], key: str) -> str:
    value: Any = values
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return "not given"
        value = value[part]
    return shown(value)
