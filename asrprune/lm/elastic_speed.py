"""The size of an elastic LM that is so many times as fast as the whole, measured where it runs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch

from asrprune import __version__
from asrprune.files import PathLike
from asrprune.lm.engines.choice import remember, remembered
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.native import cpp_compiler, processor
from asrprune.lm.engines.table import CHOICES, open_engine
from asrprune.lm.fastest import (
    SAMPLE_NODES,
    choose,
    clock_for,
    device_name,
    drawn_lists,
    first_lists,
    thread_count,
)
from asrprune.lm.low_rank_speed import least_seconds
from asrprune.lm.model.checkpoint import elastic_of, load_checkpoint
from asrprune.lm.model.elastic import Elastic
from asrprune.lm.open import lm_digest
from asrprune.lm.scoring.forests import ForestScorer, ScoringOptions

SIZES = 7
"""That are measured, at equal distances of the cut, the largest and the smallest among them."""
SAMPLE_S = (0.05, 0.3)
"""Seconds that the largest takes for the sample, at least and at most."""
MARGIN = 0.005
"""Of a speed: what is asked for may be so much above the greatest that was measured, which is shown
with two decimals."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpeedCurve:
    """How fast the cuts of an elastic LM by ``steps`` are, ``speeds`` times the whole LM, by
    ``engine`` on this machine."""

    engine: str
    steps: tuple[int, ...]
    speeds: tuple[float, ...]
    remembered: bool = False

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.speeds) or len(self.steps) < 2:
            raise ValueError(f"{len(self.steps)} steps, {len(self.speeds)} speeds")

    def steps_to(self, times: float) -> float:
        """Where the LM is ``times`` as fast as the whole: between two measured cuts, time is taken
        as straight over steps. What a smaller size was slower is taken as noise; of sizes as fast
        it is the largest.

        Raises ValueError for a speed that none of the sizes has.

        >>> SpeedCurve("bf16", (0, 10, 20), (1.0, 1.5, 3.0)).steps_to(2.0)
        15.0
        """
        speeds = np.maximum.accumulate(self.speeds)
        if not 1.0 <= times <= speeds[-1] + MARGIN:
            raise ValueError(
                f"size {times:g}x: this elastic LM is 1x to {speeds[-1]:.2f}x as fast as the whole "
                f"of it here, by engine {self.engine}; expected one of these speeds, a sparsity, "
                "or megabytes"
            )
        place = int(np.searchsorted(speeds, min(times, speeds[-1])))  # the first as fast
        around = slice(max(place - 1, 0), place + 1)
        return float(np.interp(-1.0 / times, -1.0 / speeds[around], self.steps[around]))


def sparsity_at_speed(
    path: PathLike, times: float, engine: str = "fastest", options: Optional[EngineOptions] = None
) -> float:
    """The sparsity at which the elastic LM in folder ``path`` is ``times`` as fast as the whole of
    it, to the nearest size: measured in seconds on drawn 50-best lists, said in the log and
    remembered for this LM, engine, processor and number of threads.

    ``engine`` is one of ENGINES, or of CHOICES, which is chosen for the whole LM. Raises InputError
    for a checkpoint that is not elastic, ValueError for a speed that none of its sizes has.
    """
    options = options or EngineOptions()
    elastic = elastic_of(path)
    key = {
        "speeds of": lm_digest(path),
        "engine": engine,
        "processor": processor(),
        "device": device_name(options),
        "threads": thread_count(options),
        "compiler": cpp_compiler(),
        "versions": [__version__, torch.__version__],
    }
    curve = remembered(key, SpeedCurve)
    if curve is None:
        curve = remember(key, _measured(path, elastic, engine, options))
    steps = curve.steps_to(times)
    sparsity = round(elastic.sparsity(round(steps)), 4)
    sparsity = min(max(sparsity, min(elastic.sizes)), max(elastic.sizes))
    log.info(
        "size %gx: sparsity %g, by engine %s on %d threads (measured sizes: %s)",
        times,
        sparsity,
        curve.engine,
        key["threads"],
        ", ".join(
            f"{elastic.sparsity(cut):.2f} {speed:.2f}x"
            for cut, speed in zip(curve.steps, curve.speeds)
        ),
    )
    return sparsity


def _measured(path: PathLike, elastic: Elastic, engine: str, options: EngineOptions) -> SpeedCurve:
    cuts = sorted({round(one) for one in np.linspace(0, elastic.steps, SIZES)})
    if len(cuts) < 2:
        raise ValueError(f"{path}: one size only; expected no speed to be asked for")
    whole = load_checkpoint(path)
    tokenizer, scoring = whole.tokenizer(), ScoringOptions()
    if engine in CHOICES:
        engine = choose(engine, whole.model, tokenizer, options, scoring).engine
    lists: Sequence[Sequence[Sequence[int]]] = drawn_lists(whole.model)
    scorers = {}
    for cut in cuts:
        model = copy.deepcopy(whole.model)
        elastic.cut(model, cut)
        made = open_engine(engine, model, options, tokenizer)
        scorers[cut] = ForestScorer(made, tokenizer, model.max_positions, scoring)
    nodes = SAMPLE_NODES * thread_count(options)
    lists = first_lists(scorers[cuts[0]], lists, SAMPLE_S, nodes)
    seconds = least_seconds(scorers, lists, clock_for(options))
    return SpeedCurve(
        engine, tuple(cuts), tuple(round(seconds[cuts[0]] / seconds[cut], 4) for cut in cuts)
    )
