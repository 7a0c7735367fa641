"""Measuring the speed of LM scoring: warm-up, alternated repeats, medians."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.hypothesis import NBest
from asrprune.core.progress import tracked
from asrprune.core.timing import Timing
from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.lm.protocol import LanguageModel, ScoringStats, UnscorableError


@dataclass(frozen=True)
class BenchOptions:
    """``warmup`` runs are not counted; ``repeats`` are, and their median is reported."""

    repeats: int = 5
    warmup: int = 1

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.warmup < 0:
            raise ValueError(f"repeats {self.repeats}, warmup {self.warmup}; expected >= 1, >= 0")


@dataclass(frozen=True)
class BenchResult:
    """``runs_s``: wall seconds of each counted run; ``timing``: their median with the audio and
    tokens of one run; ``scores``: one array [H] a list, of the last run."""

    name: str
    runs_s: tuple[float, ...]
    timing: Timing
    scores: list[NDArray[np.float64]]


@dataclass(frozen=True)
class SpeedUp:
    """How many times as fast as the yardstick a system is: the ratio of their wall times within
    the same turn, one a counted repeat in ``ratios``, and what ``median``, ``min`` and ``max``
    those have."""

    ratios: tuple[float, ...]
    median: float
    min: float
    max: float


def speed_up(yardstick: BenchResult, system: BenchResult) -> SpeedUp:
    """The wall times of ``yardstick`` over those of ``system``, turn by turn; above 1 the system
    is the faster one.

    A slow spell of the machine meets both of one turn, so that the ratios are steadier than the
    times. Raises ValueError for systems with different numbers of runs.
    """
    if len(yardstick.runs_s) != len(system.runs_s):
        raise ValueError(f"{len(yardstick.runs_s)} runs and {len(system.runs_s)}; expected as many")
    ratios = tuple(slow / own for slow, own in zip(yardstick.runs_s, system.runs_s))
    return SpeedUp(ratios, median(ratios), min(ratios), max(ratios))


def spread(lists: Sequence[NBest], limit: Optional[int]) -> list[NBest]:
    """``limit`` lists at equal distances, in order; all of them when there are no more, or None.

    Raises ValueError for a limit below 1.
    """
    if limit is None or limit >= len(lists):
        return list(lists)
    if limit < 1:
        raise ValueError(f"limit is {limit}; expected >= 1")
    return [lists[index * len(lists) // limit] for index in range(limit)]


def bench(
    lists: Sequence[NBest],
    systems: Mapping[str, LanguageModel],
    options: BenchOptions,
    path: PathLike = "n-best",
) -> list[BenchResult]:
    """The time of scoring all lists, tokenisation included, model loading excluded.

    The systems take turns within every repeat, so that a slow spell of the machine meets them all.
    ``path`` names the n-best file in errors. Raises InputError naming the utterance and the system
    for a hypothesis that cannot be scored: there is no time of what was left out.
    """
    texts = [[hyp.text for hyp in nbest.hyps] for nbest in lists]
    audio = [nbest.audio_s for nbest in lists]
    audio_s: Optional[float] = None
    if None not in audio:
        audio_s = sum(value for value in audio if value is not None)
    runs: dict[str, list[float]] = {name: [] for name in systems}
    counts: dict[str, ScoringStats] = {}
    scores: dict[str, list[NDArray[np.float64]]] = {}
    rounds = range(-options.warmup, options.repeats)
    turns = [(repeat, name) for repeat in rounds for name in systems]
    for repeat, name in tracked(turns, "measured", "runs"):
        lm = systems[name]
        gc.collect()
        before = lm.stats
        start = time.perf_counter()
        try:
            scores[name] = lm.score_lists(texts)
        except UnscorableError as problem:
            number, index = problem.index
            found = f"utterance {lists[number].utt}: hypothesis {index + 1} {problem.problem}"
            expected = f"hypotheses that {name} can score"
            raise InputError(path, None, found, expected) from None
        wall_s = time.perf_counter() - start
        after = lm.stats
        counts[name] = ScoringStats(
            tokens=after.tokens - before.tokens,
            unique_tokens=after.unique_tokens - before.unique_tokens,
        )
        if repeat >= 0:
            runs[name].append(wall_s)
    return [
        BenchResult(
            name,
            tuple(runs[name]),
            Timing(median(runs[name]), audio_s, counts[name].tokens, counts[name].unique_tokens),
            scores[name],
        )
        for name in systems
    ]
