"""What a report reads of LMs: their checkpoints, the families that they are part of, and the log of
their training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from asrprune.core.record import (
    Record,
    a_count,
    a_label,
    a_list_of,
    a_name,
    a_number,
    a_string,
    a_truth,
    an_object,
    parse_record,
    read_record,
)
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
from asrprune.lm.model.checkpoint import read_config
from asrprune.lm.model.shapes import ModelShape
from asrprune.report.readings import read_origin

FAMILY, LOG = "family.json", "train.jsonl"


@dataclass(frozen=True)
class MatrixReading:
    """A matrix: its block and name, parameters before and now, and its form."""

    block: int
    name: str
    reference: int
    kept: int
    form: str

    @property
    def removed(self) -> float:
        """The fraction that is gone."""
        return 1.0 - self.kept / self.reference if self.reference else 0.0


@dataclass(frozen=True)
class MemberReading:
    """One size of a family: its folder, what ``prune`` says of it, and its matrices."""

    folder: str
    asked: float
    measured: float
    parameters: int
    nonzero: int
    size_bytes: int
    faster: bool
    perplexity: Optional[float]
    perplexity_pruned: Optional[float]
    tokens: int
    matrices: tuple[MatrixReading, ...]


@dataclass(frozen=True)
class FamilyReading:
    """What ``prune`` wrote: the axes' names, the parent's figures and shape (None where the file
    does not say), the members by rising sparsity, and how it was made."""

    method: str
    criterion: str
    schedule: str
    fine_tune_tokens: Optional[int]
    parent_shape: Optional[ModelShape]
    parent_bytes: int
    parent_parameters: int
    parent_nonzero: int
    parent_perplexity: Optional[float]
    members: tuple[MemberReading, ...]
    made: Mapping[str, str]

    def member(self, folder: str) -> Optional[MemberReading]:
        """The member in this folder."""
        return next((one for one in self.members if one.folder == folder), None)


@dataclass(frozen=True)
class StepReading:
    """A pruning step: the measured sparsity after it, and its fine-tuning: points (tokens since the
    step, mean loss)."""

    sparsity: Optional[float]
    tokens: int
    losses: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class TrainingReading:
    """The log of a training: (tokens, loss) and, where there was a valid set, (tokens, perplexity
    per token)."""

    losses: tuple[tuple[float, float], ...]
    valid: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class LmReading:
    """An LM of a report. Of a checkpoint: its shape, pruning steps, hash of the weights and how it
    was made; the family and the member that it is, where it stands in one; the log of its training,
    where that is beside it. None of these for another file."""

    path: str
    shape: Optional[ModelShape] = None
    steps: tuple[StepReading, ...] = ()
    weights_sha256: Optional[str] = None
    made: Mapping[str, str] = field(default_factory=dict)
    family: Optional[FamilyReading] = None
    member: Optional[MemberReading] = None
    training: Optional[TrainingReading] = None


def read_lm(path: PathLike) -> LmReading:
    """The LM at ``path``, a checkpoint folder or the file of an n-gram. Raises InputError for
    another folder or nothing there, and for files that are damaged or hold something else."""
    folder = Path(path)
    if folder.is_file():
        return LmReading(str(path))
    config = read_config(folder)
    family = None
    if (folder.absolute().parent / FAMILY).is_file():
        family = read_family(folder.absolute().parent)
    log = folder.with_name(f"{folder.name}.training") / LOG
    return LmReading(
        str(path),
        _shape(config),
        tuple(_step(one) for one in config.parts("history")),
        config.find("weights_sha256", a_string),
        read_origin(config),
        family,
        None if family is None else family.member(folder.name),
        read_training(log) if log.is_file() else None,
    )


def _shape(record: Record) -> ModelShape:
    try:
        return ModelShape.from_dict(record.get("shape", an_object))
    except ValueError as problem:
        raise InputError(record.path, None, f"bad shape ({problem})", "a shape") from None


def _step(record: Record) -> StepReading:
    points = record.find("losses", a_list_of(a_list_of(a_number))) or ()
    if any(len(point) != 2 for point in points):
        found = f"{record.where}losses is no list of pairs"
        raise InputError(record.path, None, found, "[tokens, loss] each")
    return StepReading(
        record.find("measured", a_number),
        record.find("fine_tune_tokens", a_count) or 0,
        tuple((tokens, loss) for tokens, loss in points),
    )


def read_family(folder: PathLike) -> FamilyReading:
    """The family in ``folder``. Raises InputError when there is none or it is damaged."""
    record = read_record(Path(folder) / FAMILY).check_format("asrprune-family", 1, "a family")
    plan, parent = record.part("plan"), record.part("parent")
    return FamilyReading(
        plan.get("method", a_name),
        plan.get("criterion", a_name),
        plan.get("schedule", a_name),
        plan.find("fine_tune_tokens", a_count),
        None if parent.find("shape", an_object) is None else _shape(parent),
        parent.get("bytes", a_count),
        parent.get("parameters", a_count),
        parent.get("nonzero_parameters", a_count),
        parent.find("perplexity", a_number),
        tuple(_member(one) for one in record.parts("members")),
        read_origin(record),
    )


def _member(record: Record) -> MemberReading:
    return MemberReading(
        record.get("folder", a_label),
        record.get("asked", a_number),
        record.get("measured", a_number),
        record.get("parameters", a_count),
        record.get("nonzero_parameters", a_count),
        record.get("bytes", a_count),
        record.get("faster", a_truth),
        record.find("perplexity", a_number),
        record.find("perplexity_pruned", a_number),
        record.get("tokens", a_count),
        tuple(_matrix(one) for one in record.parts("matrices")),
    )


def _matrix(record: Record) -> MatrixReading:
    block, _, name = record.get("matrix", a_label).partition(".")
    if not block.isdecimal() or not name:
        found = f"{record.where}matrix is {record.values['matrix']!r}"
        raise InputError(record.path, None, found, "block.name")
    kept, reference = record.get("kept", a_count), record.get("reference", a_count)
    return MatrixReading(int(block), name, reference, kept, record.get("form", a_label))


def read_training(path: PathLike) -> TrainingReading:
    """The log of ``train`` at ``path``; lines that a kill left unfinished or that are damaged are
    left out, as a resume does."""
    losses: list[tuple[float, float]] = []
    valid: list[tuple[float, float]] = []
    tokens_at: dict[int, float] = {}
    for number, text in read_lines(path):
        try:
            record = parse_record(path, number, text)
            step = record.get("step", a_count)
            tokens, loss = record.find("tokens", a_count), record.find("loss", a_number)
            perplexity = record.find("valid_ppl_token", a_number)
        except InputError:
            continue
        if tokens is not None and loss is not None:
            tokens_at[step] = tokens
            losses.append((tokens, loss))
        elif perplexity is not None and step in tokens_at:
            valid.append((tokens_at[step], perplexity))
    return TrainingReading(thinned(losses), thinned(valid))


MOST_POINTS = 200
"""Points of a curve."""


def thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """At most MOST_POINTS of them, evenly spread, the last among them."""
    if len(points) <= MOST_POINTS:
        return tuple(points)
    return tuple(points[(part + 1) * len(points) // MOST_POINTS - 1] for part in range(MOST_POINTS))
