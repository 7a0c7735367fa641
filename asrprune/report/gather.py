"""Rows of the result table from the folders of finished runs, one folder a system.

A run folder is named after its system and holds what the verbs wrote:

- ``hyp``: the chosen words on the test set (``asrprune rescore``), or ``oracle.json``
- ``hyp-fixed``: the words chosen at the baseline's score weights (optional)
- ``bench*.json``: speed and size of each LM of the system (``asrprune bench``; optional)
- ``perplexity.json`` (``asrprune perplexity``; optional)
- ``rescore.json``: search time (``asrprune rescore --json``; optional)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional, TypeVar

from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.report.readings import (
    BenchReading,
    FirstPassReading,
    read_bench,
    read_oracle,
    read_perplexity,
    read_rescore,
)
from asrprune.report.rows import SystemRow
from asrprune.wer.bootstrap import bootstrap_wer, compare_scorings
from asrprune.wer.kaldi_text import read_kaldi_text
from asrprune.wer.wer import Scoring, score_texts

Number = TypeVar("Number", int, float)


def gather_rows(
    runs: Sequence[PathLike],
    ref: PathLike,
    baseline: Optional[str] = None,
    first_pass: Optional[FirstPassReading] = None,
    seed: int = 0,
) -> list[SystemRow]:
    """One row a run folder, in the given order.

    ``baseline`` names the run that every other is compared with (paired bootstrap). The real-time
    factor of ``first_pass`` is part of every total. Raises InputError for a folder without
    results, files that hold something else, and a baseline that is no run with words.
    """
    refs = read_kaldi_text(ref)
    folders = [Path(run) for run in runs]
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(twice, None, f"two runs called {twice}", "run folders of different names")
    if baseline is not None and baseline not in names:
        raise InputError(baseline, None, "no such run", f"a baseline among {', '.join(names)}")
    scorings = {
        folder.name: _score(folder / "hyp", refs, ref)
        for folder in folders
        if (folder / "hyp").is_file()
    }
    if baseline is not None and baseline not in scorings:
        found, expected = "no file hyp to compare with", "a baseline that is no oracle"
        raise InputError(folders[names.index(baseline)], None, found, expected)
    decoder_rtf = None if first_pass is None else first_pass.rtf_per_process
    rows = []
    for folder in folders:
        benches = [read_bench(path) for path in sorted(folder.glob("bench*.json"))]
        row = _model_columns(folder, benches)
        if folder.name in scorings:
            row = _wer_columns(row, scorings[folder.name], seed)
            row = _fixed_columns(row, folder, refs, ref)
            if baseline in scorings and folder.name != baseline:
                row = _paired_columns(row, scorings[baseline], scorings[folder.name], seed)
            row = _speed_columns(row, folder, benches, decoder_rtf)
        elif (folder / "oracle.json").is_file():
            row = _oracle_columns(row, folder / "oracle.json")
        else:
            raise InputError(folder, None, "no file hyp or oracle.json", "a finished run")
        rows.append(row)
    return rows


def _score(hyp: Path, refs: Mapping[str, str], ref: PathLike) -> Scoring:
    return score_texts(refs, read_kaldi_text(hyp), ref_name=str(ref), hyp_name=str(hyp))


def describe_first_pass(facts: FirstPassReading) -> str:
    """One line on how the first pass was run."""
    parts = [facts.decoder or "unknown decoder"]
    if facts.utterances is not None and facts.audio_s is not None:
        parts.append(f"{facts.utterances} utterances, {facts.audio_s:.0f} s of audio")
    if facts.rtf_per_process is not None:
        parts.append(f"RTF {facts.rtf_per_process:.3f} in one process")
    return ", ".join(parts)


def _model_columns(folder: Path, benches: Sequence[BenchReading]) -> SystemRow:
    """Name, kind, and what the LMs of the system are: size, sparsity, how they were pruned."""
    kinds = [_lm_kind(bench) for bench in benches]
    kind = "first pass" if not kinds else kinds[0] if len(kinds) == 1 else "combined"
    row = SystemRow(
        name=folder.name,
        kind=kind,
        parameters=_sum([bench.parameters for bench in benches]),
        nonzero=_sum([bench.nonzero for bench in benches]),
        size_bytes=_sum([bench.size_bytes for bench in benches]),
        ppl_word=_perplexity(folder / "perplexity.json"),
    )
    step = benches[0].pruning if kind == "pruned" else None
    if step is not None:
        row = replace(
            row,
            criterion=step.criterion,
            method=step.method,
            schedule=step.schedule,
            sparsity=step.sparsity,
            note="sparse, not faster" if step.masks else "",
        )
    return row


def _lm_kind(bench: BenchReading) -> str:
    if bench.parameters is None:
        return "n-gram"
    return "dense" if bench.pruning is None else "pruned"


def _sum(values: Sequence[Optional[Number]]) -> Optional[Number]:
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known else None


def _perplexity(path: Path) -> Optional[float]:
    return read_perplexity(path).ppl_word if path.is_file() else None


def _wer_columns(row: SystemRow, scoring: Scoring, seed: int) -> SystemRow:
    counts = [utterance.counts for utterance in scoring.utterances]
    interval = bootstrap_wer(counts, seed=seed)
    return replace(
        row,
        wer_percent=interval.wer_percent,
        wer_low=interval.percentile.low,
        wer_high=interval.percentile.high,
    )


def _oracle_columns(row: SystemRow, path: Path) -> SystemRow:
    oracle = read_oracle(path)
    return replace(
        row,
        kind="oracle",
        wer_percent=oracle.wer_percent,
        wer_low=oracle.low,
        wer_high=oracle.high,
    )


def _fixed_columns(
    row: SystemRow, folder: Path, refs: Mapping[str, str], ref: PathLike
) -> SystemRow:
    hyp = folder / "hyp-fixed"
    if not hyp.is_file():
        return row
    return replace(row, wer_fixed_percent=_score(hyp, refs, ref).counts.wer_percent)


def _paired_columns(row: SystemRow, base: Scoring, system: Scoring, seed: int) -> SystemRow:
    paired = compare_scorings(base, system, seed=seed)
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
    """RTF of LM scoring, and the total: none where a part is unknown."""
    scoring = [bench.rtf for bench in benches]
    parts = [decoder_rtf, *scoring]
    if (folder / "rescore.json").is_file():
        parts.append(read_rescore(folder / "rescore.json").search_rtf)
    return replace(
        row,
        lm_rtf=None if None in scoring else _sum(scoring),
        total_rtf=None if None in parts else _sum(parts),
    )
