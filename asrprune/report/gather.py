"""Rows of the result table from the folders of finished runs, one folder a system.

A run folder is named after its system and holds what the verbs wrote:

- ``hyp``: the chosen words on the test set (``asrprune rescore``), or ``oracle.json``
- ``hyp-fixed``: the words chosen at the baseline's score weights (optional)
- ``hyp-lists``: the words chosen from n-best lists with weights tuned on lists, where ``hyp`` is
  from lattices (optional; beside ``oracle.json`` it is ``oracle-lists.json``)
- ``weights.json``: the tuned score weights (``asrprune tune``; optional)
- ``bench*.json``: speed and size of each LM of the system (``asrprune bench``; optional)
- ``perplexity.json`` (``asrprune perplexity``; optional)
- ``rescore.json``: search time (``asrprune rescore --json``; optional)

The first pass is the only folder in which no LM left a file beside ``hyp``, unless it is the
baseline.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Optional, TypeVar

from asrprune.core.record import read_record
from asrprune.core.spool import SpooledDict
from asrprune.core.units import WORD, in_units
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
from asrprune.report.oracles import Counted, oracle_columns, oracle_curves
from asrprune.report.perplexities import perplexities
from asrprune.report.readings import (
    BenchReading,
    FirstPassReading,
    MeasurementReading,
    PaddedReading,
    PruningReading,
    read_bench,
    read_origin,
    read_rescore,
    read_weights,
)
from asrprune.report.rows import SystemRow
from asrprune.report.together import measured_with, why_no_sum
from asrprune.wer.bootstrap import Speakers, bootstrap_wer, compare_scorings, warn_of_few
from asrprune.wer.kaldi_text import parse_kaldi_text
from asrprune.wer.score import plain_refs, warn_of_form
from asrprune.wer.speakers import number_speakers, read_utt2spk
from asrprune.wer.wer import Scoring, score_texts

log = logging.getLogger(__name__)

OF_LMS = ("perplexity.json", "rescore.json", "hyp-fixed", "hyp-lists")
"""Files of a run folder that only systems with an LM have."""

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Gathered:
    """The rows of run folders, in their order, and by name what more was read of them: the scored
    words, what ``asrprune bench`` says of their LMs, (depth, WER) of oracles, and how weights were
    tuned. ``forms``: in what references and words differ that is no error of a recogniser."""

    rows: list[SystemRow]
    scorings: Mapping[str, Scoring]
    benches: Mapping[str, Sequence[BenchReading]]
    oracles: Mapping[str, Sequence[tuple[int, float]]]
    tuned: Mapping[str, Mapping[str, str]]
    speakers: Optional[Mapping[str, str]] = None
    forms: tuple[str, ...] = ()

    def row(self, name: Optional[str]) -> Optional[SystemRow]:
        """The row of this name."""
        return next((row for row in self.rows if row.name == name), None)


class Draw(NamedTuple):
    """How the bootstrap draws: whole ``speakers`` (of the utterances, in their order), or
    utterances."""

    seed: int
    speakers: Optional[Speakers] = None


def gather_runs(
    runs: Sequence[PathLike],
    ref: PathLike,
    baseline: Optional[str] = None,
    first_pass: Optional[FirstPassReading] = None,
    seed: int = 0,
    unit: str = WORD,
    utt2spk: Optional[PathLike] = None,
) -> Gathered:
    """One row a run folder, in the given order; errors are counted in ``unit``, one of UNITS.

    ``baseline`` names the run that every other is compared with (paired bootstrap). The real-time
    factor of ``first_pass`` is part of every total. With the speakers of ``utt2spk`` (Kaldi's)
    intervals are over them, and over utterances without. Logs where references and words differ in
    form. Raises InputError as ``plain_refs`` does for the references, for a folder without
    results, files that hold something else, and a baseline that is no run with words.
    """
    refs = _References(ref, unit)
    folders = [Path(run) for run in runs]
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(twice, None, f"two runs called {twice}", "run folders of different names")
    if baseline is not None and baseline not in names:
        raise InputError(baseline, None, "no such run", f"a baseline among {', '.join(names)}")
    scorings = _scorings(folders, "hyp", refs)
    on_lists = _scorings(folders, "hyp-lists", refs)
    if baseline is not None and baseline not in scorings:
        found, expected = "no file hyp to compare with", "a baseline that is no oracle"
        raise InputError(folders[names.index(baseline)], None, found, expected)
    speakers = None if utt2spk is None else read_utt2spk(utt2spk)
    draw = Draw(seed)
    if utt2spk is not None and speakers is not None and scorings:
        utterances = (one.utt for one in next(iter(scorings.values())).utterances)
        draw = Draw(seed, number_speakers(utt2spk, speakers, utterances))
    elif scorings:
        warn_of_few(ref, len(next(iter(scorings.values())).utterances))
    decoder_rtf = None if first_pass is None else first_pass.rtf_per_process
    rows = []
    every = {folder.name: _benches(folder) for folder in folders}
    whole = {folder.name: _whole(folder, every[folder.name]) for folder in folders}
    kinds = _kinds_without_bench(folders, whole, baseline)
    together = measured_with(whole, baseline)
    of_text = perplexities(folders, baseline)
    tuned = {}
    oracles: dict[str, Sequence[tuple[int, float]]] = {}
    for folder in folders:
        benches = whole[folder.name]
        row = _model_columns(folder, benches, kinds.get(folder.name))
        row = replace(row, ppl_word=of_text.get(folder.name))
        if folder.name in scorings:
            compared = None if folder.name == baseline else baseline
            row = _wer_columns(row, scorings[folder.name], draw)
            row = _fixed_columns(row, folder, refs)
            if compared is not None:
                row = _paired_columns(row, scorings[compared], scorings[folder.name], draw)
            if folder.name in on_lists:
                base = None if compared is None else on_lists.get(compared)
                row = _lists_columns(row, base, on_lists[folder.name], draw)
            row = _speed_columns(row, folder, benches, decoder_rtf)
            row = replace(row, measured_with=together.get(folder.name))
            if (folder / "weights.json").is_file():
                row = replace(row, weights=read_weights(folder / "weights.json"))
                tuned[folder.name] = read_origin(read_record(folder / "weights.json"))
        elif (folder / "oracle.json").is_file():
            row = oracle_columns(row, folder, refs.counted)
            oracles |= oracle_curves(folder)
        else:
            raise InputError(folder, None, "no file hyp or oracle.json", "a finished run")
        rows.append(row)
    return Gathered(rows, scorings, every, oracles, tuned, speakers, refs.forms)


def _benches(folder: Path) -> list[BenchReading]:
    return [read_bench(path) for path in sorted(folder.glob("bench*.json"))]


def _whole(folder: Path, benches: Sequence[BenchReading]) -> Sequence[BenchReading]:
    """``benches`` if they are of all LMs of the system; none otherwise, which is logged: a part
    says nothing of the whole."""
    lms = _lms(folder)
    if not benches or len(benches) >= lms:
        return benches
    told = "%s: bench files of %d of the %d LMs of weights.json; size and speed are unknown"
    log.warning(told, folder, len(benches), lms)
    return ()


def _lms(folder: Path) -> int:
    """How many LMs the weights of a system name; 0 without such a file."""
    weights = folder / "weights.json"
    return sum(one.is_lm for one in read_weights(weights)) if weights.is_file() else 0


def _scorings(folders: Sequence[Path], name: str, refs: _References) -> dict[str, Scoring]:
    """Name -> the scored words of each folder that has them, in its file ``name``."""
    there = [folder for folder in folders if (folder / name).is_file()]
    return {folder.name: refs.score(folder / name) for folder in there}


class _References:
    """The references of a file, cut into units, and what is scored against them; ``forms``: in what
    they and the first words that differ in form differ."""

    def __init__(self, path: PathLike, unit: str) -> None:
        self._path, self._unit = path, unit
        refs = plain_refs(path)
        self._ignored = refs.ignored
        self._texts = self._in_units(refs.texts.items())
        self.forms: tuple[str, ...] = ()

    @cached_property
    def counted(self) -> Counted:
        """How much there is to score."""
        words = sum(len(text.split()) for text in self._texts.values())
        return Counted(str(self._path), len(self._texts), words, self._unit)

    def score(self, hyp: Path) -> Scoring:
        """The scored words of a file. A difference of form is logged of the first that has one."""
        found = parse_kaldi_text(hyp, read_lines(hyp))
        hyps = self._in_units(
            (utt, text) for utt, (text, _) in found.items() if utt not in self._ignored
        )
        scoring = score_texts(
            self._texts, hyps, ref_name=str(self._path), hyp_name=str(hyp), on_disk=True
        )
        if not self.forms:
            self.forms = warn_of_form(self._texts, hyps, self._unit, str(hyp), scorer=False)
        return scoring

    def _in_units(self, texts: Iterable[tuple[str, str]]) -> SpooledDict[str]:
        return SpooledDict((utt, in_units(text, self._unit)) for utt, text in texts)


def describe_first_pass(facts: FirstPassReading) -> str:
    """One line on how the first pass was run."""
    parts = [facts.decoder or "unknown decoder"]
    if facts.utterances is not None and facts.audio_s is not None:
        parts.append(f"{facts.utterances} utterances, {facts.audio_s:.0f} s of audio")
    if facts.rtf_per_process is not None:
        parts.append(f"RTF {facts.rtf_per_process:.3f} in one process")
    return ", ".join(parts)


def read_measurement(
    runs: Sequence[PathLike], baseline: Optional[str] = None
) -> Optional[MeasurementReading]:
    """What the speeds were measured on, and the precision of training: of the baseline's bench
    file, or of the first run that has one; None without any."""
    folders = sorted(map(Path, runs), key=lambda folder: folder.name != baseline)
    for folder in folders:
        for path in sorted(folder.glob("bench*.json")):
            bench = read_bench(path)
            return MeasurementReading(bench.machine, bench.training_precision)
    return None


def describe_machine(measured: Optional[MeasurementReading]) -> dict[str, str]:
    """Label -> text of what a measurement was made on, as far as it is known."""
    facts: dict[str, str] = {}
    machine = None if measured is None else measured.machine
    if machine is not None:
        parts = [machine.processor or "unknown processor"]
        if machine.flags:
            parts.append(f"with {' '.join(machine.flags)}")
        if machine.cores is not None:
            parts.append(f"{machine.cores} cores")
        if machine.memory_bytes is not None:
            parts.append(f"{machine.memory_bytes / 2**30:.0f} GiB")
        facts["speed measured on"] = ", ".join(part for part in parts)
    if measured is not None and measured.training_precision is not None:
        facts["precision of training"] = measured.training_precision
    return facts


def _kinds_without_bench(
    folders: Sequence[Path], whole: Mapping[str, Sequence[BenchReading]], baseline: Optional[str]
) -> dict[str, str]:
    """Name -> kind of each folder with ``hyp`` and without bench files of the ``whole`` system, by
    what else is in it; "unknown" where no LM left a file, and which of such folders is the first
    pass cannot be told."""
    kinds: dict[str, str] = {}
    bare = []
    for folder in folders:
        if whole[folder.name] or not (folder / "hyp").is_file():
            continue
        lms = _lms(folder)
        if lms or any((folder / name).is_file() for name in OF_LMS):
            kinds[folder.name] = "combined" if lms > 1 else "rescored"
        else:
            kinds[folder.name] = "unknown"
            bare.append(folder.name)
    if len(bare) == 1 and bare[0] != baseline:
        kinds[bare[0]] = "first pass"
    return kinds


def _model_columns(
    folder: Path, benches: Sequence[BenchReading], without: Optional[str]
) -> SystemRow:
    """Name, kind (``without`` bench files that), and what the LMs of the system are: size,
    sparsity, how they were pruned."""
    kinds = [_lm_kind(bench) for bench in benches]
    kind = without or (kinds[0] if len(kinds) == 1 else "combined" if kinds else "unknown")
    row = SystemRow(
        name=folder.name,
        kind=kind,
        parameters=_sum([bench.parameters for bench in benches]),
        nonzero=_sum([bench.nonzero for bench in benches]),
        size_bytes=_sum([bench.size_bytes for bench in benches]),
    )
    step = benches[0].pruning if kind == "pruned" else None
    if step is not None:
        row = replace(
            row,
            criterion=step.criterion,
            method=step.method,
            schedule=step.schedule,
            sparsity=step.sparsity,
            note=_note(step),
        )
    return row


def _note(step: PruningReading) -> str:
    """What is to be said of a pruned LM in words."""
    notes = ["sparse, not faster"] if step.masks else []
    return "; ".join([*notes, "not fine-tuned"] if step.fine_tuned is False else notes)


def _lm_kind(bench: BenchReading) -> str:
    if bench.parameters is None:
        return "n-gram"
    return "dense" if bench.pruning is None else "pruned"


def _sum(values: Sequence[Optional[Number]]) -> Optional[Number]:
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known else None


def _wer_columns(row: SystemRow, scoring: Scoring, draw: Draw) -> SystemRow:
    interval = bootstrap_wer(scoring.table, seed=draw.seed, speakers=draw.speakers)
    return replace(
        row,
        wer_percent=interval.wer_percent,
        wer_low=interval.percentile.low,
        wer_high=interval.percentile.high,
        words=scoring.counts.words,
    )


def _lists_columns(
    row: SystemRow, base: Optional[Scoring], system: Scoring, draw: Draw
) -> SystemRow:
    """WER of words chosen from lists, and the difference to the baseline's of that kind."""
    alone = _wer_columns(row, system, draw)
    row = replace(
        row,
        wer_lists_percent=alone.wer_percent,
        wer_lists_low=alone.wer_low,
        wer_lists_high=alone.wer_high,
    )
    if base is None:
        return row
    paired = _paired_columns(row, base, system, draw)
    return replace(
        row,
        delta_lists_percent=paired.delta_percent,
        delta_lists_low=paired.delta_low,
        delta_lists_high=paired.delta_high,
        delta_lists_p=paired.delta_p,
    )


def _fixed_columns(row: SystemRow, folder: Path, refs: _References) -> SystemRow:
    hyp = folder / "hyp-fixed"
    if not hyp.is_file():
        return row
    return replace(row, wer_fixed_percent=refs.score(hyp).counts.wer_percent)


def _paired_columns(row: SystemRow, base: Scoring, system: Scoring, draw: Draw) -> SystemRow:
    paired = compare_scorings(base, system, seed=draw.seed, speakers=draw.speakers)
    return replace(
        row,
        delta_percent=paired.difference_percent,
        delta_low=paired.interval.low,
        delta_high=paired.interval.high,
        delta_p=paired.p_value,
    )


def _speed_columns(
    row: SystemRow,
    folder: Path,
    benches: Sequence[BenchReading],
    decoder_rtf: Optional[float],
) -> SystemRow:
    """RTF of LM scoring, the total, and the speed against padded batches: none where a part is
    unknown, or where parts do not add up, which is logged."""
    scoring = [bench.rtf for bench in benches] or ([] if row.kind == "first pass" else [None])
    parts = [decoder_rtf, *scoring]
    if (folder / "rescore.json").is_file():
        parts.append(read_rescore(folder / "rescore.json").search_rtf)
    engines = [bench.engine for bench in benches]
    if None not in engines:
        row = replace(row, engine=" + ".join(map(str, dict.fromkeys(engines))) or None)
    why = why_no_sum(benches)
    if why is not None:
        log.warning("%s: its bench files are %s: their times do not add up", folder, why)
        return row
    row = replace(
        row,
        lm_rtf=None if None in scoring else _sum(scoring),
        total_rtf=None if None in parts else _sum(parts),
    )
    padded = _together([bench.padded for bench in benches])
    if padded is None:
        return row
    return replace(
        row,
        times_padded=padded.median,
        times_padded_low=min(padded.ratios),
        times_padded_high=max(padded.ratios),
        padded_lm=padded.lm,
        padded_lm_hash=None if benches[0].run is None else benches[0].run.padded_lm_hash,
    )


def _together(parts: Sequence[Optional[PaddedReading]]) -> Optional[PaddedReading]:
    """The ratios of LMs that score one after the other: their times add up, turn by turn. None
    where one is unknown or they have not the same yardstick and turns."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    if len({(part.lm, len(part.ratios)) for part in known}) > 1:
        return None
    turns = zip(*(part.ratios for part in known))
    return PaddedReading(known[0].lm, tuple(1 / sum(1 / one for one in turn) for turn in turns))
