"""One LM on many engines: speed in turns, scores against the padded batch, opening and memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Optional

from asrprune.core.hypothesis import NBest
from asrprune.core.processes import in_processes
from asrprune.core.progress import tracked
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError, MissingPackage
from asrprune.files import PathLike
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.table import ENGINES
from asrprune.lm.model.elastic import Size
from asrprune.lm.open import open_lm, open_padded, short_name
from asrprune.lm.protocol import LanguageModel
from asrprune.lm.scoring.forests import ScoringOptions
from asrprune.rescore.bench.agreement import compare_scores
from asrprune.rescore.bench.bench import BenchOptions, bench
from asrprune.rescore.bench.figures import describe_lm, system_row, times_padded
from asrprune.rescore.bench.machine import peak_rss_bytes
from asrprune.text.form import TextOptions

PADDED = "padded"


@dataclass(frozen=True)
class Subject:
    """An LM and how it is run; ``path`` of a checkpoint folder, ``size`` as for ``open_lm``."""

    path: str
    options: EngineOptions
    scoring: ScoringOptions
    text: TextOptions
    size: Optional[Size] = None

    def open(self, engine: str) -> LanguageModel:
        """The LM on an engine. Raises as ``open_lm`` does."""
        options = self.options
        if not ENGINES[engine].calibrated:
            options = replace(options, calibration=None)
        return open_lm(self.path, engine, options, self.scoring, self.text, size=self.size)


def bench_engines(
    subject: Subject,
    engines: Iterable[str],
    lists: Sequence[NBest],
    options: BenchOptions,
    path: PathLike,
    weights: Optional[ScoreWeights] = None,
    check: bool = True,
) -> dict[str, Any]:
    """The figures of an LM on each of ``engines``, as ``asrprune bench --engines`` writes them.

    ``engines`` of the result: one entry an engine, with ``opening_s`` (seconds, after torch is
    imported) and ``peak_rss_bytes`` of a process of its own that scored the lists once, and with
    ``check`` its ``agreement`` with the padded batch. ``unavailable``: engine -> reason. Raises
    InputError as ``bench`` does.
    """
    texts = [[hyp.text for hyp in nbest.hyps] for nbest in lists]
    found: dict[str, Mapping[str, Any]] = {}
    unavailable: dict[str, str] = {}
    for name in tracked(list(engines), "opened", "engines"):
        try:
            jobs = in_processes(_open_alone, [(subject, name, texts)], 1, _nothing, (), path)
            (found[name],) = jobs
        except (InputError, MissingPackage, ValueError, OSError) as problem:
            unavailable[name] = " ".join(str(problem).split())
    systems = {name: subject.open(name) for name in found}
    padded = open_padded(subject.path, subject.options, subject.scoring, subject.text, subject.size)
    described = describe_lm(subject.path, padded, subject.options.threads, subject.size)
    described["lm"] = short_name(subject.path, subject.size)
    results = bench(lists, {**systems, PADDED: padded}, options, path)
    entries = []
    for name, own in zip(systems, results):
        entry = {
            **system_row(own, results[-1]),
            "accuracy": ENGINES[name].accuracy,
            "note": systems[name].runtime.note,
            "times_padded": times_padded(own, results[-1], described["lm"]),
            **found[name],
        }
        if check:
            agreement = compare_scores(lists, results[-1].scores, own.scores, weights)
            entry["agreement"] = {"reference": PADDED, **asdict(agreement)}
        entries.append(entry)
    shape = {name: value for name, value in described.items() if name not in ("engine", "note")}
    baseline = system_row(results[-1], results[-1])
    return {**shape, PADDED: baseline, "engines": entries, "unavailable": unavailable}


def _nothing() -> None:
    """What a process does before its engine."""


def _open_alone(job: tuple[Subject, str, Sequence[Sequence[str]]]) -> dict[str, Any]:
    """In a process of its own."""
    subject, engine, texts = job
    start = time.perf_counter()
    lm = subject.open(engine)
    opening_s = time.perf_counter() - start
    lm.score_lists(texts)
    return {"opening_s": opening_s, "peak_rss_bytes": peak_rss_bytes()}
