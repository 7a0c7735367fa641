"""What results.json of a study holds: LMs, each with the cells of the grid that were run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Optional

from grid import CONTINUED, told, with_own

from asrprune.core.record import (
    Record,
    a_count,
    a_label,
    a_list,
    a_list_of,
    a_ratio,
    a_string,
    an_amount,
    one_of,
    read_record,
)
from asrprune.errors import InputError
from asrprune.files import write_text
from asrprune.provenance import provenance
from asrprune.report.table_file import read_texts
from asrprune.rescore.bench.machine import describe_machine

FORMAT, VERSION = "asrprune-study", 1
DENSE, PRUNED, SCRATCH, NGRAM = "dense", "pruned", "scratch", "ngram"


@dataclass(frozen=True, order=True)
class Plan:
    """How an LM was made smaller. ``sparsity``: the fraction of the prunable weights removed;
    ``budget``: fine-tuning tokens of the run over those of the dense LM's training."""

    method: str
    criterion: str
    schedule: str
    budget: float
    sparsity: float

    @property
    def family(self) -> Plan:
        """The plan without its size."""
        return replace(self, sparsity=0.0)

    def __str__(self) -> str:
        size = f"{self.sparsity:.2f}" if self.sparsity else ""
        parts = [self.method, self.criterion, self.schedule, size]
        return "-".join(part for part in parts if part) + f", budget {self.budget:g}"


@dataclass(frozen=True, eq=False)  # each is one of its own, and a key
class Cell:
    """One LM that was measured. ``nll``: -ln P of each block of text, in nats; ``errors``: list ->
    word errors of each utterance. ``times_padded``: times as fast as the dense LM's padded batch;
    where a file tells how fast a cell was beside the dense LM (``times_dense``), that times the
    dense LM's own, so that clocks of different hours are not compared. ``file_bytes``: of an
    elastic LM, the file that holds all of its sizes. ``settings``: what ``prune`` was told by
    ``--set``; ``statistics_tokens`` where they are not those of the other cells."""

    name: str
    kind: str
    plan: Plan
    tokens: int
    seed: int
    size_bytes: int
    seconds: float
    nll: tuple[float, ...]
    errors: Mapping[str, tuple[int, ...]]
    times_padded: Optional[float]
    file_bytes: Optional[int] = None
    settings: tuple[str, ...] = ()
    statistics_tokens: Optional[int] = None


@dataclass(frozen=True)
class ListSet:
    """A set of n-best lists: words of the reference and word errors of each utterance."""

    name: str
    words: tuple[int, ...]
    first_pass_errors: tuple[int, ...]
    oracle_errors: tuple[int, ...]


@dataclass(frozen=True)
class Lm:
    """A dense LM and all that was made of it. ``block_words``: words of each block of the text,
    </s> among them."""

    name: str
    facts: Mapping[str, str]
    parameters: int
    d_model: int
    training_tokens: int
    lists: tuple[ListSet, ...]
    text: str
    block_words: tuple[int, ...]
    cells: tuple[Cell, ...]
    statistics_tokens: Optional[int] = None

    @property
    def dense(self) -> Cell:
        """The dense LM's own cell."""
        return self.of_kind(DENSE)[0]

    @cached_property
    def pruned(self) -> dict[Plan, list[Cell]]:
        """Plan -> its cells, one a seed; in the order of the plans."""
        return _by_plan(self.of_kind(PRUNED))

    @cached_property
    def scratch(self) -> dict[Plan, list[Cell]]:
        """The same for the LMs that were trained small."""
        return _by_plan(self.of_kind(SCRATCH))

    @cached_property
    def continued(self) -> dict[Plan, list[Cell]]:
        """The same for the dense LM trained on: a plan differs from others by its budget."""
        return _by_plan(self.of_kind(CONTINUED))

    def of_kind(self, kind: str) -> list[Cell]:
        """The cells of a kind."""
        return [cell for cell in self.cells if cell.kind == kind]


def _by_plan(cells: Iterable[Cell]) -> dict[Plan, list[Cell]]:
    found: dict[Plan, list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: (cell.plan, cell.seed)):
        found.setdefault(cell.plan, []).append(cell)
    return found


def size_bytes(cells: Sequence[Cell]) -> float:
    """Bytes of the weights file, averaged over the seeds."""
    return fmean(cell.size_bytes for cell in cells)


def speed(cells: Sequence[Cell]) -> Optional[float]:
    """Times as fast as the dense LM's padded batch, averaged over the seeds that tell."""
    known = [cell.times_padded for cell in cells if cell.times_padded is not None]
    return fmean(known) if known else None


@dataclass(frozen=True)
class Results:
    """The file."""

    facts: Mapping[str, str]
    lms: tuple[Lm, ...]


def read_results(path: Path) -> Results:
    """The results of a study. Raises InputError naming the key that is not right, a combination
    that comes twice, and an LM without its one dense cell."""
    record = read_record(path).check_format(FORMAT, VERSION, "results of a study")
    lms = tuple(_lm(one) for one in record.parts("lms"))
    if not lms or len({lm.name for lm in lms}) < len(lms):
        found = f"lms {', '.join(lm.name for lm in lms) or '[]'}"
        raise InputError(path, None, found, "one at least, each name once")
    return Results(read_texts(record, "facts"), lms)


def _lm(record: Record) -> Lm:
    shape, text = record.part("shape"), record.part("text")
    lists = tuple(_list_set(one) for one in record.parts("lists"))
    words = text.get("words", a_list_of(a_count))
    if len(words) < 2 or 0 in words:
        found = f"{text.where}words with {len(words)} blocks"
        raise InputError(record.path, None, found, "2 blocks at least, words in each")
    parts = record.parts("cells")
    settings = record.find("set", a_list_of(a_string)) or ()
    statistics_tokens = record.find("statistics_tokens", a_count)
    cells = tuple(_cell(one, len(words), lists, settings) for one in parts)
    seen: set[object] = set()
    for cell in cells:
        own = cell.name if cell.kind == NGRAM else (cell.kind, cell.plan, cell.seed)
        if own in seen:
            raise InputError(record.path, None, f"{record.where}cells: {cell.name} twice", "once")
        seen.add(own)
    if [cell.kind for cell in cells].count(DENSE) != 1:
        raise InputError(record.path, None, f"{record.where}cells without a dense LM", "one")
    (dense,) = (cell.times_padded for cell in cells if cell.kind == DENSE)
    if dense is not None:
        beside = [part.find("times_dense", a_ratio) for part in parts]
        cells = tuple(
            cell if ratio is None else replace(cell, times_padded=ratio * dense)
            for cell, ratio in zip(cells, beside)
        )
    return Lm(
        record.get("name", a_label),
        read_texts(record, "facts"),
        shape.get("parameters", a_count),
        shape.get("d_model", a_count),
        record.get("training_tokens", a_count),
        lists,
        text.get("name", a_label),
        words,
        cells,
        statistics_tokens,
    )


def _list_set(record: Record) -> ListSet:
    utts = record.get("utts", a_count)
    keys = "words", "first_pass_errors", "oracle_errors"
    words, first, oracle = (_column(record, key, utts) for key in keys)
    if utts < 2 or 0 in words:
        found = f"{record.where}words of {utts} utterances"
        raise InputError(record.path, None, found, "2 utterances at least, words in each")
    return ListSet(record.get("name", a_label), words, first, oracle)


def _column(record: Record, key: str, length: int) -> tuple[int, ...]:
    column = record.get(key, a_list_of(a_count))
    if len(column) != length:
        found = f"{record.where}{key} has {len(column)} numbers"
        raise InputError(record.path, None, found, f"{length}, one an utterance")
    return column


def _cell(
    record: Record, blocks: int, lists: tuple[ListSet, ...], settings: tuple[str, ...]
) -> Cell:
    nll = record.get("nll", a_list_of(a_ratio))
    if len(nll) != blocks:
        found = f"{record.where}nll has {len(nll)} numbers"
        raise InputError(record.path, None, found, f"{blocks}, one a block of the text")
    errors = {}
    if record.values.get("errors") is not None:
        part = record.part("errors")
        known = {one.name: len(one.first_pass_errors) for one in lists}
        for name in part.values:
            if name not in known:
                expected = f"one of the lists {', '.join(known) or '(none)'}"
                raise InputError(record.path, None, f"{part.where}{name}", expected)
        errors = {name: _column(part, name, known[name]) for name in part.values}
    plan = Plan(
        record.find("method", a_label) or "",
        record.find("criterion", a_label) or "",
        record.find("schedule", a_label) or "",
        record.find("budget", an_amount) or 0.0,
        record.find("sparsity", an_amount) or 0.0,
    )
    return Cell(
        record.get("name", a_label),
        record.get("kind", one_of(DENSE, PRUNED, SCRATCH, NGRAM, CONTINUED)),
        plan,
        record.find("tokens", a_count) or 0,
        record.find("seed", a_count) or 0,
        record.get("bytes", a_count),
        record.find("seconds", an_amount) or 0.0,
        nll,
        errors,
        record.find("times_padded", a_ratio),
        record.find("file_bytes", a_count),
        told(
            plan.method,
            plan.schedule,
            with_own(settings, record.find("set", a_list_of(a_string)) or ()),
            record.find("rates", a_list_of(an_amount)) or (),
        ),
        record.find("statistics_tokens", a_count),
    )


def add_entry(out: Path, entry: dict[str, Any], command: str) -> None:
    """Put the entry of an LM in a results file, in the place of its former one."""
    others = []
    if out.exists():
        old = read_record(out).check_format(FORMAT, VERSION, "results of a study")
        others = [one for one in old.get("lms", a_list) if one["name"] != entry["name"]]
    made, machine = provenance([command]), describe_machine()
    words = [machine["processor"], *machine["flags"], f"{machine['cores']} cores"]
    facts = {
        "machine": ", ".join(words),
        "commit": made["commit"],
        "versions": f"python {made['python']}, torch {made['torch']}, numpy {made['numpy']}",
        "date": made["time_utc"][:10],
    }
    entry["facts"] |= facts
    lms = sorted([*others, entry], key=lambda one: str(one["name"]))
    with write_text(out) as stream:
        stream.write(results_text(lms))


def results_text(lms: Sequence[Mapping[str, Any]]) -> str:
    """A results file: a line for each cell, and one for the rest of each LM."""

    def line(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    parts = []
    for lm in lms:
        rest = line({key: value for key, value in lm.items() if key != "cells"})
        cells = ",\n".join(line(cell) for cell in lm["cells"])
        parts.append(f'{rest[:-1]},"cells":[\n{cells}\n]}}')
    head = line({"format": FORMAT, "version": VERSION})
    return f'{head[:-1]},"lms":[\n' + ",\n".join(parts) + "\n]}\n"
