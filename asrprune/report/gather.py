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
from typing import Any, Optional

from asrprune.errors import InputError
from asrprune.files import PathLike, read_json
from asrprune.report.rows import SystemRow
from asrprune.wer.bootstrap import bootstrap_wer, compare_scorings
from asrprune.wer.kaldi_text import read_kaldi_text
from asrprune.wer.wer import Scoring, score_texts


def gather_rows(
    runs: Sequence[PathLike],
    ref: PathLike,
    baseline: Optional[str] = None,
    first_pass: Optional[PathLike] = None,
    seed: int = 0,
) -> list[SystemRow]:
    """One row a run folder, in the given order.

    ``baseline`` names the run that every other is compared with (paired bootstrap).
    ``first_pass`` is the decoder's ``first_pass.json``; its real-time factor is part of every
    total. Raises InputError for a folder without results or a baseline that is not among them.
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
    decoder_rtf = None if first_pass is None else _decoder_rtf(first_pass)
    rows = []
    for folder in folders:
        row = _model_columns(folder)
        if folder.name in scorings:
            row = _wer_columns(row, scorings[folder.name], seed)
            row = _fixed_columns(row, folder, refs, ref)
            if baseline in scorings and folder.name != baseline:
                row = _paired_columns(row, scorings[baseline], scorings[folder.name], seed)
            row = _speed_columns(row, folder, decoder_rtf)
        elif (folder / "oracle.json").is_file():
            row = _oracle_columns(row, folder / "oracle.json")
        else:
            raise InputError(folder, None, "no file hyp or oracle.json", "a finished run")
        rows.append(row)
    return rows


def _score(hyp: Path, refs: Mapping[str, str], ref: PathLike) -> Scoring:
    return score_texts(refs, read_kaldi_text(hyp), ref_name=str(ref), hyp_name=str(hyp))


def _decoder_rtf(path: PathLike) -> Optional[float]:
    facts = read_json(path)
    value = facts.get("rtf_per_process") if isinstance(facts, dict) else None
    if value is not None and not isinstance(value, (int, float)):
        raise InputError(path, None, f"rtf_per_process is {value!r}", "a number or null")
    return value


def describe_first_pass(facts: Mapping[str, Any]) -> str:
    """One line on how the first pass was run, from its ``first_pass.json``."""
    parts = [str(facts.get("identity", {}).get("decoder", "unknown decoder"))]
    if facts.get("audio_s") is not None:
        parts.append(f"{facts['utterances']} utterances, {facts['audio_s']:.0f} s of audio")
    if facts.get("rtf_per_process") is not None:
        parts.append(f"RTF {facts['rtf_per_process']:.3f} in one process")
    return ", ".join(parts)


def _benches(folder: Path) -> list[dict[str, Any]]:
    return [read_json(path) for path in sorted(folder.glob("bench*.json"))]


def _model_columns(folder: Path) -> SystemRow:
    """Name, kind, and what the LMs of the system are: size, sparsity, how they were pruned."""
    benches = _benches(folder)
    kinds = [_lm_kind(bench) for bench in benches]
    kind = "first pass" if not kinds else kinds[0] if len(kinds) == 1 else "combined"
    row = SystemRow(
        name=folder.name,
        kind=kind,
        parameters=_sum(bench.get("parameters") for bench in benches),
        nonzero=_sum(bench.get("nonzero_parameters") for bench in benches),
        size_bytes=_sum(bench.get("size_bytes") for bench in benches),
        ppl_word=_perplexity(folder),
    )
    if kind == "pruned":
        step = benches[0]["history"][-1]
        row = replace(
            row,
            criterion=step.get("criterion"),
            method=step.get("method"),
            schedule=step.get("schedule"),
            sparsity=step.get("measured"),
            note="sparse, not faster" if step.get("masks") else "",
        )
    return row


def _lm_kind(bench: Mapping[str, Any]) -> str:
    if bench.get("parameters") is None:
        return "n-gram"
    return "pruned" if bench.get("history") else "dense"


def _sum(values: Any) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _perplexity(folder: Path) -> Optional[float]:
    path = folder / "perplexity.json"
    return read_json(path)["ppl_word"] if path.is_file() else None


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
    deepest = read_json(path)["depths"][-1]
    low, high = deepest["interval_percent"]
    return replace(
        row, kind="oracle", wer_percent=deepest["wer_percent"], wer_low=low, wer_high=high
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


def _speed_columns(row: SystemRow, folder: Path, decoder_rtf: Optional[float]) -> SystemRow:
    lm_rtf = _sum(bench["systems"][0].get("rtf") for bench in _benches(folder))
    search_rtf = _search_rtf(folder / "rescore.json")
    total = None
    if decoder_rtf is not None:
        total = decoder_rtf + (lm_rtf or 0.0) + (search_rtf or 0.0)
    return replace(row, lm_rtf=lm_rtf, total_rtf=total)


def _search_rtf(path: Path) -> Optional[float]:
    if not path.is_file():
        return None
    facts = read_json(path)
    search_s: float = facts["search_wall_s"]
    return search_s / facts["audio_s"] if facts.get("audio_s") else None
