"""The runs that a study consists of: a plan for each point of a grid, in the order to run them.

A grid file is JSON: ``{"grids": [{"method": [...], "criterion": [...], "schedule": [...],
"sparsity": [...], "budget": [...], "seed": [...]}, ...], "statistics_tokens": 10000,
"set": ["fine_tuning.batch_tokens=2048"], "rates": [[1e-3, 5e-3], [4e-4, 2e-3]],
"timed": "kfac"}``. Each grid is the product of its lists
but for ``sparsity``: each size is a run of its own, which all have the same fine-tuning, or, with
``"together": true``, an incremental run makes them all, as a family. A study goes from the first
grid to the last, so that what matters most is there first. ``budget`` is the fine-tuning of
a run as a fraction of the tokens that the dense LM was trained on; one-shot goes without it too.
``rates`` are pairs of peak learning rates (AdamW's and Muon's): fine-tuning is tried with each, and
what has the lowest perplexity on the validation sentences is kept; without them prune's own. A grid
may have ``rates`` of its own, as new weights (method ``scratch``) need, its own
``statistics_tokens``, and its own ``set``, which is added to the file's, or said in the place of
the same keys. Schedule ``elastic-interpolative`` is
elastic, with sizes stored as interpolative decompositions. A method with ``+embedding`` behind it,
as unstructured+embedding, makes zeros of three quarters of the tied embedding, too, and
unstructured+embedding0.5 of half of it. With
``"words": false`` the perplexities of a grid's runs are measured, but no word errors and no speed,
unless a grid before it has the run too. ``"continued": [0.1]``: behind the grids the dense LM
itself is trained on with each of these budgets, at the file's ``rates`` and without distillation,
for pruned LMs to be held against.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from asrprune.core.record import (
    Record,
    a_count,
    a_label,
    a_list_of,
    a_ratio,
    a_string,
    a_truth,
    an_amount,
    one_of,
    read_record,
)
from asrprune.errors import InputError

ELASTIC: Mapping[str, tuple[str, ...]] = {
    "elastic": (),
    "elastic-interpolative": ("options.form=interpolative",),
}
"""Schedules of one LM for all sizes -> what ``prune --schedule elastic`` is told by ``--set``."""
CONTINUED = "continued"
"""The method of a run that prunes nothing, and trains the dense LM on."""
ON_EMBEDDING = re.compile(r"\+embedding(0?\.\d+)?$", re.ASCII)
"""What stands behind a method that makes zeros in the embedding, too, with their share."""
EMBEDDING_SPARSITY = "0.75"
"""That share where none stands there."""
Rates = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Run:
    """One call of ``prune``, for each of ``rates`` if there are any, and the sizes that it makes.
    ``budget``: see above. ``settings`` and ``statistics_tokens``: its grid's own."""

    method: str
    criterion: str
    schedule: str
    sparsities: tuple[float, ...]
    budget: float
    seed: int
    rates: Rates = ()
    settings: tuple[str, ...] = ()
    statistics_tokens: Optional[int] = None
    words: bool = field(default=True, compare=False)
    """Whether word errors and speed are measured too."""

    @property
    def name(self) -> str:
        """Of its file: axes, budget and seed, and the size where each has a run of its own."""
        if self.method == CONTINUED:
            return f"{CONTINUED}-b{self.budget:g}"
        parts = [self.method, self.criterion, self.schedule, f"b{self.budget:g}", f"s{self.seed}"]
        if len(self.sparsities) == 1:
            parts.append(f"{self.sparsities[0]:g}")
        return "-".join(parts)

    @property
    def is_elastic(self) -> bool:
        """Whether it makes one LM for all sizes."""
        return self.schedule in ELASTIC

    @property
    def kind(self) -> str:
        """The schedule, and whether its run made a family of sizes."""
        family = len(self.sparsities) > 1 and not self.is_elastic
        return f"{self.schedule} family" if family else self.schedule


@dataclass(frozen=True)
class Study:
    """What a grid file holds: the runs in order, what all calls of ``prune`` are told by ``--set``,
    the learning rates that grids without their own are tried with, and the criterion whose members'
    speed is measured for all (the shapes hardly differ)."""

    runs: tuple[Run, ...]
    statistics_tokens: int
    settings: tuple[str, ...]
    rates: Rates
    timed: str

    def rates_of(self, name: str) -> Rates:
        """Those of the run of this name, or of all where it is not of this grid file."""
        return next((run.rates for run in self.runs if run.name == name), self.rates)

    def settings_of(self, name: str) -> tuple[str, ...]:
        """What ``prune`` is told for the run of this name, or for all where it is not here."""
        own = next((run.settings for run in self.runs if run.name == name), ())
        return with_own(self.settings, own)

    def statistics_of(self, name: str) -> int:
        """Tokens of the statistics of the run of this name, or of all where it is not here."""
        own = next((run.statistics_tokens for run in self.runs if run.name == name), None)
        return self.statistics_tokens if own is None else own


def with_own(settings: Sequence[str], own: Sequence[str]) -> tuple[str, ...]:
    """KEY=VALUE of a file, and those of one of its grids, which go before the file's.

    >>> with_own(["hold=0.5", "steps=8"], ["hold=0.7", "growth=2"])
    ('hold=0.7', 'steps=8', 'growth=2')
    """
    return tuple({one.partition("=")[0]: one for one in (*settings, *own)}.values())


def on_blocks(method: str) -> str:
    """The method of ``prune``.

    >>> on_blocks("unstructured+embedding0.5"), on_blocks("width+structured")
    ('unstructured', 'width+structured')
    """
    return ON_EMBEDDING.sub("", method)


def told(
    method: str, schedule: str, settings: Sequence[str], rates: Sequence[float]
) -> tuple[str, ...]:
    """What a run tells ``prune`` by ``--set``.

    >>> told("low-rank", "elastic-interpolative", ["hold=0.5"], [0.001])
    ('hold=0.5', 'options.form=interpolative', 'fine_tuning.optimizer.lr=0.001')
    >>> told("unstructured+embedding", "one-shot", [], [])
    ('options.embedding_sparsity=0.75',)
    >>> told("unstructured+embedding0.5", "one-shot", [], [])
    ('options.embedding_sparsity=0.5',)
    """
    named = zip(("lr", "muon_lr"), rates)
    own = (f"fine_tuning.optimizer.{name}={value:g}" for name, value in named)
    zeros = [found[1] or EMBEDDING_SPARSITY for found in ON_EMBEDDING.finditer(method)]
    embedding = (f"options.embedding_sparsity={share}" for share in zeros)
    return (*settings, *embedding, *ELASTIC.get(schedule, ()), *own)


def read_study(path: Path) -> Study:
    """The study of a grid file. Raises InputError for a bad one, for a run of a schedule that
    prunes in steps without fine-tuning, and for one that comes twice and not alike."""
    record = read_record(path)
    common = _rates(record) or ()
    runs: dict[str, Run] = {}
    for grid in record.parts("grids"):
        own = _rates(grid)
        for run in _product(grid, common if own is None else own):
            if run.schedule != "one-shot" and run.budget == 0.0:
                found = f"schedule {run.schedule} with budget 0"
                raise InputError(path, None, found, "one-shot, or some fine-tuning")
            if runs.setdefault(run.name, run) != run:
                found = f"{run.name} twice, with other sizes, rates or settings"
                raise InputError(path, None, found, "all sizes of a run in one grid")
    for budget in record.find("continued", a_list_of(a_ratio)) or ():
        run = Run(CONTINUED, "", "one-shot", (0.0,), budget, 1, common)
        runs[run.name] = run
    if not runs:
        raise InputError(path, None, "no run", "a grid with a value on each axis")
    settings = record.find("set", a_list_of(a_string)) or ()
    tokens, timed = record.get("statistics_tokens", a_count), record.get("timed", a_label)
    return Study(tuple(runs.values()), tokens, settings, common, timed)


def _rates(record: Record) -> Optional[Rates]:
    """None where there are none."""
    rates = record.find("rates", a_list_of(a_list_of(an_amount)))
    for pair in rates or ():
        if len(pair) != 2:
            found = f"rates {json.dumps(rates)}"
            raise InputError(record.path, None, found, "pairs [lr, muon_lr]")
    return None if rates is None else tuple((a, b) for a, b in rates)


def _product(grid: Record, rates: Rates) -> Iterator[Run]:
    """The runs of one grid, methods slowest, so that all of one method are near in time."""
    method = grid.get("method", a_list_of(a_label))
    criterion = grid.get("criterion", a_list_of(a_label))
    schedule = grid.get("schedule", a_list_of(one_of("one-shot", "linear", "cubic", *ELASTIC)))
    sparsity = grid.get("sparsity", a_list_of(a_ratio))
    budget = grid.get("budget", a_list_of(an_amount))
    seed = grid.get("seed", a_list_of(a_count))
    settings = tuple(grid.find("set", a_list_of(a_string)) or ())
    tokens = grid.find("statistics_tokens", a_count)
    words = grid.find("words", a_truth) is not False
    together = grid.find("together", a_truth) or False
    for point in itertools.product(method, criterion, schedule, budget, seed):
        as_one = point[2] in ELASTIC or (together and point[2] != "one-shot")
        for sizes in [sparsity] if as_one else [(one,) for one in sparsity]:
            without = point[3] == 0.0  # nothing is fine-tuned
            tried = () if without else rates
            yield Run(*point[:3], sizes, *point[3:], tried, settings, tokens, words)
