"""Where each row comes from: the LM, its data, the engine, the machine, the commands."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from asrprune.report.gather import Gathered
from asrprune.report.lm_files import LmReading
from asrprune.report.page import Section
from asrprune.report.readings import BenchReading

HASH = 12
"""Digits of a hash that are shown."""


def origins_section(gathered: Gathered, lms: Mapping[str, LmReading]) -> list[Section]:
    """What is known of each row, folded; none where nothing is."""
    parts = []
    for row in gathered.rows:
        facts = [
            *_of_lm(lms.get(row.name)),
            *_of_measurement(gathered.benches.get(row.name, ())),
            *_labelled("weights", gathered.tuned.get(row.name, {})),
        ]
        if facts:
            shown = "".join(
                f"<dt>{html.escape(label)}</dt><dd{_class(label)}>{html.escape(text)}</dd>"
                for label, text in facts
            )
            parts.append(
                f"<details><summary>{html.escape(row.name)}</summary><dl>{shown}</dl></details>"
            )
    if not parts:
        return []
    return [Section("origins", "Where each row comes from", "\n".join(parts), quotes=True)]


def _of_lm(lm: LmReading | None) -> list[tuple[str, str]]:
    if lm is None:
        return []
    facts = [("LM", lm.path)]
    if lm.weights_sha256 is not None:
        facts.append(("weights SHA-256", lm.weights_sha256[:HASH]))
    return facts + _labelled("LM", lm.made)


def _of_measurement(benches: Sequence[BenchReading]) -> list[tuple[str, str]]:
    """Engine, threads, processor, commit and command of each measurement of speed."""
    facts = []
    for bench in benches:
        how = [bench.engine or "", bench.device or ""]
        if bench.threads is not None:
            how.append(f"{bench.threads} thread{'s' * (bench.threads != 1)}")
        if bench.machine is not None and bench.machine.processor is not None:
            how.append(bench.machine.processor)
        told = ", ".join(part for part in how if part)
        of = f" of {bench.lm}" if bench.lm and len(benches) > 1 else ""
        facts += [(f"speed{of}", told)] if told else []
        facts += _labelled(f"speed{of}", bench.made)
    return facts


def _labelled(what: str, made: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(f"{what}: {key}", value) for key, value in made.items()]


def _class(label: str) -> str:
    return ' class="command"' if label.endswith("command") else ""
