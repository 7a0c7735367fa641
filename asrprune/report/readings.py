"""What a report reads of the JSON files that the verbs write, checked key by key.

Keys that a report does not use may hold anything. Every reader raises InputError naming the file
and the key for what is missing or of another type or range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Optional

from asrprune.core.record import (
    Record,
    a_count,
    a_label,
    a_list,
    a_list_of,
    a_name,
    a_number,
    a_ratio,
    a_string,
    a_truth,
    an_amount,
    an_interval,
    an_object,
    one_of,
    read_record,
)
from asrprune.core.units import UNITS
from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.report.rows import Weight

ORIGIN = ("command", "commit", "parent", "data")
"""What is read of how a file was made, by its "provenance": no times, so that a page that is made
again says the same."""


@dataclass(frozen=True)
class PruningReading:
    """The last pruning of a checkpoint: the axes' names, the measured ``sparsity``, and whether
    only zeros were made (``masks``); whether any of its prunings was followed by fine-tuning
    (``fine_tuned``, None where a file does not say)."""

    criterion: Optional[str]
    method: Optional[str]
    schedule: Optional[str]
    sparsity: Optional[float]
    masks: bool
    fine_tuned: Optional[bool] = None


@dataclass(frozen=True)
class PaddedReading:
    """How many times as fast as the padded fp32 batch of the LM called ``lm``: one ratio a repeat,
    each taken within one turn."""

    lm: str
    ratios: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the ratios."""
        return median(self.ratios)


@dataclass(frozen=True)
class MachineReading:
    """What a measurement was made on; None where a file does not say. ``flags`` are the
    instruction sets that decide the speed of matrix products."""

    processor: Optional[str] = None
    flags: Optional[tuple[str, ...]] = None
    cores: Optional[int] = None
    memory_bytes: Optional[int] = None
    system: Optional[str] = None


@dataclass(frozen=True)
class RunReading:
    """A run of ``asrprune bench``: hashes of its times, which all files of one share, of its lists
    and of the LM of the padded batch."""

    times_hash: str
    nbest_hash: str
    padded_lm_hash: Optional[str] = None


@dataclass(frozen=True)
class MeasurementReading:
    """``asrprune bench``: the machine, and the number format that its LM was trained in."""

    machine: Optional[MachineReading]
    training_precision: Optional[str]


@dataclass(frozen=True)
class BenchReading:
    """``asrprune bench``: size and speed of an LM. ``parameters`` is None for an n-gram, ``rtf``
    (of scoring) where durations are unknown, ``pruning`` for an LM that was not pruned, ``engine``
    and what follows for files that do not say. ``made``: those of ORIGIN that the file states.
    ``audio_s`` and ``words`` are of the lists."""

    parameters: Optional[int]
    nonzero: Optional[int]
    size_bytes: Optional[int]
    rtf: Optional[float]
    pruning: Optional[PruningReading]
    engine: Optional[str] = None
    padded: Optional[PaddedReading] = None
    machine: Optional[MachineReading] = None
    training_precision: Optional[str] = None
    lm: Optional[str] = None
    threads: Optional[int] = None
    device: Optional[str] = None
    made: Mapping[str, str] = field(default_factory=dict)
    run: Optional[RunReading] = None
    audio_s: Optional[float] = None
    words: Optional[int] = None


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
    """``asrprune oracle`` at the largest depth: WER in percent with its interval. ``curve``:
    (depth, WER) of each depth that is stated. What follows is None for files that do not say:
    utterances and ``words`` (of ``unit``) of the references; ``plain``: words were scored as they
    stand there."""

    wer_percent: float
    low: float
    high: float
    curve: tuple[tuple[int, float], ...] = ()
    utterances: Optional[int] = None
    words: Optional[int] = None
    unit: Optional[str] = None
    plain: bool = True


@dataclass(frozen=True)
class PerplexityReading:
    """``asrprune perplexity``: per word, ``</s>`` counted; of how many ``lines`` and ``words``, and
    a hash of the text, None for files that do not say."""

    ppl_word: float
    lines: Optional[int] = None
    words: Optional[int] = None
    text_hash: Optional[str] = None


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
    pruning = _pruning([record.part("history", one) for one in range(len(steps or ()))])
    systems = record.get("systems", a_list)
    if not systems:
        raise InputError(path, None, "systems is []", "one system at least")
    parameters = record.find("parameters", a_count)
    engine = record.find("engine", a_name)
    if parameters is None and engine is None and "engine" in record.values:
        engine = "kenlm"  # an n-gram has no choice of engine
    known = record.find("known", an_object)
    return BenchReading(
        parameters=parameters,
        nonzero=record.find("nonzero_parameters", a_count),
        size_bytes=record.find("size_bytes", a_count),
        rtf=record.part("systems", 0).find("rtf", an_amount),
        pruning=pruning,
        engine=engine,
        padded=_padded(record),
        machine=read_machine(record),
        training_precision=record.find("training_precision", a_name),
        lm=record.find("lm", a_label),
        threads=record.find("threads", a_count),
        device=record.find("device", a_name),
        made=read_origin(record),
        run=_run(record),
        audio_s=record.part("systems", 0).find("audio_s", an_amount),
        words=None if known is None else record.part("known").find("words", a_count),
    )


def _run(record: Record) -> Optional[RunReading]:
    """What stands under the key "run"; None without one."""
    if record.find("run", an_object) is None:
        return None
    run = record.part("run")
    hashes = run.get("times_hash", a_name), run.get("nbest_hash", a_name)
    return RunReading(*hashes, run.find("padded_lm_hash", a_name))


def read_origin(record: Record) -> dict[str, str]:
    """Those of ORIGIN that stand under the key "provenance"; empty without one."""
    if record.find("provenance", an_object) is None:
        return {}
    made = record.part("provenance")
    known = {key: made.find(key, a_label) for key in ORIGIN}
    return {key: value for key, value in known.items() if value is not None}


def _padded(record: Record) -> Optional[PaddedReading]:
    if record.find("times_padded", an_object) is None:
        return None
    times = record.part("times_padded")
    ratios = times.get("ratios", a_list_of(a_ratio))
    if not ratios:
        raise InputError(record.path, None, "times_padded.ratios is []", "one ratio at least")
    return PaddedReading(times.get("lm", a_label), ratios)


def read_machine(record: Record) -> Optional[MachineReading]:
    """What stands under the key "machine"; None without one."""
    if record.find("machine", an_object) is None:
        return None
    machine = record.part("machine")
    return MachineReading(
        processor=machine.find("processor", a_label),
        flags=machine.find("flags", a_list_of(a_name)),
        cores=machine.find("cores", a_count),
        memory_bytes=machine.find("memory_bytes", a_count),
        system=machine.find("system", a_label),
    )


def _pruning(steps: Sequence[Record]) -> Optional[PruningReading]:
    if not steps:
        return None
    step = steps[-1]
    tokens = [one.find("fine_tune_tokens", a_count) for one in steps]
    return PruningReading(
        criterion=step.find("criterion", a_name),
        method=step.find("method", a_name),
        schedule=step.find("schedule", a_name),
        sparsity=step.find("measured", a_number),
        masks=step.find("masks", a_truth) or False,
        fine_tuned=None if None in tokens else any(tokens),
    )


def read_weights(path: PathLike) -> tuple[Weight, ...]:
    """The weights of ``asrprune tune`` at ``path``: acoustic, first LM, one an LM, word bonus.

    Their intervals are those of ``dev.intervals``, None for a file without them.
    """
    record = read_record(path)
    record.get("weights", an_object)
    weights = record.part("weights")
    names = record.find("lms", a_list_of(a_label)) or ()
    values = weights.find("lm", a_list_of(a_number)) or ()
    found = _intervals(record)
    of_lms = None if found is None else found.find("lm", a_list_of(an_interval))
    if len({len(part) for part in (values, names, of_lms) if part is not None}) > 1:
        counts = f"{len(values)} LM weights, {len(names)} lms"
        counts += "" if of_lms is None else f", {len(of_lms)} intervals of LM weights"
        raise InputError(path, None, counts, "as many of each")

    def plain(name: str) -> Weight:
        interval = None if found is None else found.find(name, an_interval)
        low, high = interval or (None, None)
        return Weight(name, weights.get(name, a_number), low, high)

    lms = [
        Weight(name, value, low, high, is_lm=True)
        for name, value, (low, high) in zip(names, values, of_lms or [(None, None)] * len(names))
    ]
    return plain("acoustic"), plain("first_lm"), *lms, plain("word_bonus")


def _intervals(record: Record) -> Optional[Record]:
    """What the tuner says of the weights' 95 % intervals; None for a file without."""
    if record.find("dev", an_object) is None:
        return None
    dev = record.part("dev")
    return dev.part("intervals") if dev.find("intervals", an_object) is not None else None


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
    every = (record.part("depths", index) for index in range(len(depths)))
    curve = ((one.find("depth", a_count), one.find("wer_percent", an_amount)) for one in every)
    known = tuple((depth, wer) for depth, wer in curve if depth and wer is not None)
    scoring = record.find("scoring", an_object)
    rules = None if scoring is None else record.part("scoring")
    options = None if rules is None else rules.find("options", a_list_of(a_string))
    return OracleReading(
        deepest.get("wer_percent", an_amount),
        low,
        high,
        known,
        record.find("utterances", a_count),
        deepest.find("words", a_count),
        None if rules is None else rules.find("unit", one_of(*UNITS)),
        all(one.startswith("--unit ") for one in options or ()),
    )


def read_perplexity(path: PathLike) -> PerplexityReading:
    """The file of ``perplexity --json`` at ``path``."""
    record = read_record(path)
    sentences = record.find("sentences", a_count)
    words = record.find("words", a_count)
    return PerplexityReading(
        record.get("ppl_word", an_amount),
        None if sentences is None else sentences + (record.find("empty_lines", a_count) or 0),
        None if words is None else words + (record.find("oov_left_out", a_count) or 0),
        record.find("text_hash", a_name),
    )


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
