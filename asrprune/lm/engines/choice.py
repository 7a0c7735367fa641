"""Which of several engines is the fastest: measured in turns, and remembered.

Every candidate scores the same sample once, unmeasured, and its scores are compared with those of
torch in float32. Then the candidates take turns; one that is far behind is dropped, and it ends
after some turns or a second. Of those that are as good as equal the most accurate one is taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional, TypeVar

import numpy as np
from numpy.typing import NDArray

from asrprune.core.checksums import read_sealed, write_sealed
from asrprune.core.record import a, read_record
from asrprune.core.resume import DAMAGE
from asrprune.errors import InputError
from asrprune.lm.engines.cache import CHOSEN, open_to_others, private_cache

Floats = NDArray[np.float64]
Run = Callable[[], Floats]
"""Scores the sample, [H] ln P."""

EXACT = 1e-3
"""Nats by which an engine of the accuracy class float32 may differ from torch in float32."""
HOPELESS = (2.0, 1.3)
"""Times the time of the fastest at which a candidate is dropped, after the first turn and later."""
EQUAL = 1.02
"""Times the time of the fastest up to which the more accurate engine is taken."""
PATIENCE_S = 2.0
"""Seconds to wait for another process that is writing down the same choice."""
LEAST_TURNS, MOST_TURNS = 5, 9
BUDGET_S = 1.0
"""Seconds after which no turn beyond LEAST_TURNS begins, and three times them, none at all."""

log = logging.getLogger(__name__)


Kept = TypeVar("Kept")
"""A dataclass with ``remembered``: whether it was measured at an earlier time."""


@dataclass(frozen=True)
class Choice:
    """The ``engine`` that ``asked`` stands for here, and why.

    ``speeds``: engine -> times as fast as torch in float32; ``differences``: its mean
    |difference| of ln P from torch in float32; ``not_measured``: engine -> reason. ``sample``: what
    it was measured on. ``remembered``: at an earlier time, on this LM or another of its shape.
    ``weights_sha256``: of the weights of the LM whose scores ``differences`` are of.
    """

    asked: str
    engine: str
    speeds: Mapping[str, float]
    differences: Mapping[str, float]
    not_measured: Mapping[str, str]
    sample: str
    remembered: bool = False
    weights_sha256: str = ""

    def __post_init__(self) -> None:
        if self.engine not in self.speeds:
            raise ValueError(f"no speed of {self.engine}")

    def __str__(self) -> str:
        """
        >>> print(Choice("fastest", "int8", {"torch": 1.0, "int8": 3.1}, {}, {}, "8 lists"))
        engine int8 (fastest: 3.1 x torch, measured on 8 lists)
        """
        speeds = sorted(self.speeds.items(), key=lambda item: -item[1])
        others = [f"{name} {speed:.1f}" for name, speed in speeds if name != self.engine]
        if not others:
            return f"engine {self.engine} ({self.asked}: no other can be measured here)"
        shown = f"{self.speeds[self.engine]:.1f} x torch"
        following = f", next {others[0]}" if others and others[0] != "torch 1.0" else ""
        how = "remembered from" if self.remembered else "measured on"
        return f"engine {self.engine} ({self.asked}: {shown}{following}, {how} {self.sample})"


def take_turns(
    runs: Mapping[str, Run], clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Seconds of every run, the least of its turns, since other processes only ever add; one that
    is dropped has had fewer."""
    seconds = dict.fromkeys(runs, float("inf"))
    left, spent = list(runs), 0.0
    for turn in range(1, MOST_TURNS + 1):
        for name in left:
            start = clock()
            runs[name]()
            taken = clock() - start
            seconds[name] = min(seconds[name], taken)
            spent += taken
        best = min(seconds[name] for name in left)
        left = [name for name in left if seconds[name] <= HOPELESS[turn > 1] * best]
        if len(left) == 1 or spent > 3 * BUDGET_S or (turn >= LEAST_TURNS and spent > BUDGET_S):
            break
    return seconds


def pick(seconds: Mapping[str, float]) -> str:
    """The fastest; of those as good as equal, the first, the most accurate.

    >>> pick({"torch": 3.0, "bf16": 1.01, "int8": 1.0})
    'bf16'
    """
    best = min(seconds.values())
    return next(name for name, value in seconds.items() if value <= EQUAL * best)


def exact_enough(name: str, accuracy: str, difference: float) -> bool:
    """Whether the engine keeps what its accuracy class says; a warning if not. ``difference``: the
    largest |difference| of ln P from torch in float32."""
    if np.isfinite(difference) and (accuracy != "float32" or difference <= EXACT):
        return True
    text = "engine %s is not taken: its scores are up to %.2g nats from torch in float32; expected"
    log.warning(text + " at most %g", name, difference, EXACT)
    return False


def remembered(key: Mapping[str, Any], kind: type[Kept]) -> Optional[Kept]:
    """What was measured for ``key`` (plain JSON: all that decides it), a dataclass; None where
    nothing was kept, or, with one line in the log, where what was kept is damaged or may be another
    user's."""
    path = _path(key)
    if path is None or not path.is_file():
        return None
    try:
        reason = open_to_others(path)
        if not reason and read_sealed(path).get("key") == json.loads(json.dumps(key)):
            return read_record(path).get("found", a(kind))
        reason = reason or "not what belongs there"
    except (*DAMAGE, AttributeError) as problem:
        reason = str(problem)
    log.warning("%s is ignored: %s", path, " ".join(reason.split())[:200])
    with contextlib.suppress(OSError):
        path.unlink()
    return None


def remember(key: Mapping[str, Any], found: Kept) -> Kept:
    """Keep what was ``found``; where that cannot be, one line in the log says so. Returns it, or
    what another process has found meanwhile: shards that begin at once go on with one engine."""
    path = _path(key)
    if path is None:
        return found
    stop = time.monotonic() + PATIENCE_S
    while True:
        there = remembered(key, type(found))
        if there is not None:
            return there
        try:
            write_sealed(path, {"key": dict(key), "found": {**_values(found), "remembered": True}})
            return found
        except (InputError, OSError) as problem:
            if isinstance(problem, OSError) or time.monotonic() > stop:
                log.warning("what was measured is not remembered: %s", problem)
                return found
        time.sleep(0.02)  # another process is writing it


def _values(found: Any) -> dict[str, Any]:
    return asdict(found)


def _path(key: Mapping[str, Any]) -> Optional[Path]:
    folder = private_cache(CHOSEN)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return None if folder is None else folder / f"{digest}.json"
