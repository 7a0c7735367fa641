"""Which speeds may be compared: those of one run of ``asrprune bench``, or of alike ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Optional

from asrprune.report.readings import BenchReading

log = logging.getLogger(__name__)


def measured_with(
    benches: Mapping[str, Sequence[BenchReading]], baseline: Optional[str]
) -> dict[str, str]:
    """Name of each system that was measured -> the first one whose speed its own may be compared
    with, the baseline before all others. Logs in one line which cannot be compared with the
    baseline's, and why."""
    names = sorted((name for name in benches if benches[name]), key=lambda name: name != baseline)
    firsts: dict[str, str] = {}
    apart: dict[str, list[str]] = {}
    for name in names:
        for first in dict.fromkeys(firsts.values()):
            pairs = product(benches[name], benches[first])
            why = next(filter(None, (why_apart(*pair) for pair in pairs)), None)
            if why is None:
                firsts[name] = first
                break
            if first == baseline:
                apart.setdefault(why, []).append(name)
        firsts.setdefault(name, name)
    if apart:
        told = "; ".join(f"{', '.join(those)}: {why}" for why, those in apart.items())
        log.warning("speeds not measured together with %s, and not compared: %s", baseline, told)
    return firsts


def why_apart(one: BenchReading, other: BenchReading) -> Optional[str]:
    """What differs between two measurements that may not be compared; None where they may.

    They may if they are of one run of the verb, or if processor, device, lists, threads and engine
    are the same; n-grams have no choice of the last two. Engines may also differ that one command
    chose. Files without hashes have the same lists if the seconds of audio and the words that they
    state are the same.
    """
    if _of_one_run(one, other):
        return None
    command = one.made.get("command")
    called_alike = command is not None and command == other.made.get("command")
    if _processor(one) != _processor(other):
        return "another processor"
    if one.machine is None and not called_alike:
        return "a processor that is not stated"
    if one.device != other.device:
        return f"device {one.device} instead of {other.device}"
    if _differ(_lists(one), _lists(other)):
        return "other lists"
    if one.parameters is None or other.parameters is None:
        return None
    if one.threads != other.threads:
        return f"{one.threads} threads instead of {other.threads}"
    if one.engine != other.engine and not called_alike:
        return f"engine {one.engine} instead of {other.engine}"
    return None


def why_no_sum(benches: Sequence[BenchReading]) -> Optional[str]:
    """Why the times of the LMs of one system do not add up; None where they do. They do if they are
    of one run of the verb, or of one processor and the same lists; each LM may have its own device,
    engine and threads."""
    for one, other in combinations(benches, 2):
        if _of_one_run(one, other):
            continue
        if _processor(one) != _processor(other):
            return "of several processors"
        if _differ(_lists(one), _lists(other)):
            return "of several sets of lists"
    return None


def _of_one_run(one: BenchReading, other: BenchReading) -> bool:
    if one.run is None or other.run is None:
        return False
    return one.run.times_hash == other.run.times_hash


def _processor(bench: BenchReading) -> Optional[tuple[object, ...]]:
    machine = bench.machine
    return None if machine is None else (machine.processor, machine.flags, machine.system)


def _lists(bench: BenchReading) -> tuple[object, ...]:
    return None if bench.run is None else bench.run.nbest_hash, bench.audio_s, bench.words


def _differ(stated: Sequence[object], others: Sequence[object]) -> bool:
    """Whether any differs that both state."""
    pairs = zip(stated, others)
    return any(one != other for one, other in pairs if None not in (one, other))
