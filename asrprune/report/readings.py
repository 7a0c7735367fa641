"""What a report reads of the JSON files that the verbs write, checked key by key.

Keys that a report does not use may hold anything. Every reader raises InputError naming the file
and the key for what is missing or of another type or range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.report.record import (
    Record,
    a_count,
    a_list,
    a_name,
    a_number,
    a_truth,
    an_amount,
    an_interval,
    an_object,
    read_record,
)


@dataclass(frozen=True)
class PruningReading:
    """The last pruning of a checkpoint: the axes' names, the measured ``sparsity``, and whether
    only zeros were made (``masks``)."""

    criterion: Optional[str]
    method: Optional[str]
    schedule: Optional[str]
    sparsity: Optional[float]
    masks: bool


@dataclass(frozen=True)
class BenchReading:
    """``asrprune bench``: size and speed of an LM. ``parameters`` is None for an n-gram, ``rtf``
    (of scoring) where durations are unknown, ``pruning`` for an LM that was not pruned."""

    parameters: Optional[int]
    nonzero: Optional[int]
    size_bytes: Optional[int]
    rtf: Optional[float]
    pruning: Optional[PruningReading]


@dataclass(frozen=True)
class RescoreReading:
    """``asrprune rescore``: seconds of the search (None for lattices, whose search has the LM's
    time in it) and of the audio (None where unknown)."""

    search_s: Optional[float]
    audio_s: Optional[float]

    @property
    def search_rtf(self) -> Optional[float]:
        """Seconds of search a second of audio."""
        return self.search_s / self.audio_s if self.search_s is not None and self.audio_s else None


@dataclass(frozen=True)
class OracleReading:
    """``asrprune oracle`` at the largest depth: WER in percent with its interval."""

    wer_percent: float
    low: float
    high: float


@dataclass(frozen=True)
class PerplexityReading:
    """``asrprune perplexity``: per word, ``</s>`` counted."""

    ppl_word: float


@dataclass(frozen=True)
class FirstPassReading:
    """``asrprune first-pass``: the decoder's name and speed; None where a file does not say."""

    decoder: Optional[str]
    utterances: Optional[int]
    audio_s: Optional[float]
    rtf_per_process: Optional[float]


def read_bench(path: PathLike) -> BenchReading:
    """The bench file at ``path``; of several systems the first, which is the LM itself."""
    record = read_record(path)
    steps = record.find("history", a_list)
    pruning = _pruning(record.part("history", len(steps) - 1)) if steps else None
    systems = record.get("systems", a_list)
    if not systems:
        raise InputError(path, None, "systems is []", "one system at least")
    return BenchReading(
        parameters=record.find("parameters", a_count),
        nonzero=record.find("nonzero_parameters", a_count),
        size_bytes=record.find("size_bytes", a_count),
        rtf=record.part("systems", 0).find("rtf", an_amount),
        pruning=pruning,
    )


def _pruning(step: Record) -> PruningReading:
    return PruningReading(
        criterion=step.find("criterion", a_name),
        method=step.find("method", a_name),
        schedule=step.find("schedule", a_name),
        sparsity=step.find("measured", a_number),
        masks=step.find("masks", a_truth) or False,
    )


def read_rescore(path: PathLike) -> RescoreReading:
    """The file of ``rescore --json`` at ``path``, of lists or of lattices."""
    record = read_record(path)
    search = record.find if "mode" in record.values else record.get  # lattices have a mode
    return RescoreReading(search("search_wall_s", an_amount), record.find("audio_s", an_amount))


def read_oracle(path: PathLike) -> OracleReading:
    """The file of ``oracle --json`` at ``path``."""
    record = read_record(path)
    depths = record.get("depths", a_list)
    if not depths:
        raise InputError(path, None, "depths is []", "one depth at least")
    deepest = record.part("depths", len(depths) - 1)
    low, high = deepest.get("interval_percent", an_interval)
    return OracleReading(deepest.get("wer_percent", an_amount), low, high)


def read_perplexity(path: PathLike) -> PerplexityReading:
    """The file of ``perplexity --json`` at ``path``."""
    return PerplexityReading(read_record(path).get("ppl_word", an_amount))


def read_first_pass(path: PathLike) -> FirstPassReading:
    """A decoder's ``first_pass.json``; another tool's may hold the real-time factor alone."""
    record = read_record(path)
    identity = record.find("identity", an_object)
    return FirstPassReading(
        decoder=None if identity is None else record.part("identity").find("decoder", a_name),
        utterances=record.find("utterances", a_count),
        audio_s=record.find("audio_s", an_amount),
        rtf_per_process=record.find("rtf_per_process", an_amount),
    )
