"""What a pruning run made: models of many sizes, each with what was asked and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from asrprune.core.checksums import write_sealed
from asrprune.core.record import (
    Record,
    a,
    a_count,
    a_name,
    a_number,
    an_object,
    anything,
    read_record,
)
from asrprune.files import PathLike
from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.lm.model.matrices import DenseLinear, FactoredLinear
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM, count_nonzero, count_parameters

FAMILY, VERSION = "family.json", 1
ELASTIC = "elastic"
"""The folder of an elastic LM, in which all members are."""
NOT_FINE_TUNED = "not fine-tuned"
WORSE_FINE_TUNED = "ppl {before:.2f} before fine-tuning: lower its rates, or give it more tokens"


@dataclass(frozen=True)
class MatrixRow:
    """One matrix: parameters of the dense ancestor and now (zeros do not count), and its form."""

    matrix: str
    reference: int
    kept: int
    form: str

    @property
    def sparsity(self) -> float:
        """Fraction removed; 0 for a matrix that never had a parameter."""
        return 1.0 - self.kept / self.reference if self.reference else 0.0


@dataclass(frozen=True)
class Member:
    """One saved model, or a size of an elastic one. ``asked`` and ``measured``: fraction of
    prunable parameters removed.

    ``measured``, ``parameters``, ``nonzero_parameters`` and ``bytes`` come from the saved file.
    ``faster`` is whether matrices became smaller; otherwise there are only zeros in them.
    Perplexities are per token of the valid set, None without one. ``tokens``, ``steps`` and
    ``wall_s`` were spent on fine-tuning from the parent to here, along the whole run;
    ``fine_tuned`` is whether there was any.
    """

    asked: float
    measured: float
    folder: str
    parameters: int
    nonzero_parameters: int
    bytes: int
    faster: bool
    perplexity_pruned: Optional[float]
    perplexity: Optional[float]
    tokens: int
    steps: int
    wall_s: float
    matrices: tuple[MatrixRow, ...] = ()
    fine_tuned: bool = True

    @property
    def note(self) -> str:
        """What a table says of it in words."""
        speed = "smaller matrices" if self.faster else "sparse, not faster"
        if not self.fine_tuned:
            return f"{speed}; {NOT_FINE_TUNED}"
        before, after = self.perplexity_pruned, self.perplexity
        if before is not None and after is not None and after > before:
            return f"{speed}; {WORSE_FINE_TUNED.format(before=before)}"
        return speed


@dataclass(frozen=True)
class Family:
    """All sizes of a run, smallest sparsity first, with the parent's figures beside them."""

    plan: Mapping[str, Any]
    parent: Mapping[str, Any]
    members: tuple[Member, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def with_member(self, member: Member) -> Family:
        """The family with the member added, in the place of one of the same asked sparsity."""
        others = [old for old in self.members if old.asked != member.asked]
        members = tuple(sorted([*others, member], key=lambda one: one.asked))
        return Family(self.plan, self.parent, members, self.provenance)

    @property
    def name(self) -> str:
        """Its three axes, as ``structured-kfac-cubic``."""
        return "-".join(str(self.plan[axis]) for axis in ("method", "criterion", "schedule"))

    def name_of(self, member: Member) -> str:
        """The family and the size."""
        return f"{self.name} {member.asked:g}"


def write_family(folder: PathLike, family: Family) -> None:
    """Write ``family.json`` into the folder."""
    value = {"format": "asrprune-family", "version": VERSION, **asdict(family)}
    write_sealed(Path(folder) / FAMILY, value)


def read_family(folder: PathLike) -> Family:
    """The family in ``folder``. Raises InputError when there is none or it is damaged."""
    path = Path(folder) / FAMILY
    value = read_record(path).check_format("asrprune-family", VERSION, "a family")
    plan, parent = value.part("plan"), value.part("parent")
    for axis in ("method", "criterion", "schedule"):
        plan.get(axis, a_name)
    for count in ("parameters", "nonzero_parameters", "bytes"):
        parent.get(count, a_count)
    if parent.get("perplexity", anything) is not None:
        parent.get("perplexity", a_number)
    members = tuple(_member(one) for one in value.parts("members"))
    provenance = value.get("provenance", an_object)
    return Family(plan.values, parent.values, members, provenance)


def _member(record: Record) -> Member:
    """A member; whether older ones were fine-tuned is told by their tokens."""
    tuned = record.get("tokens", a_count) > 0
    whole = {"fine_tuned": tuned, **record.values}
    return Record(record.path, {record.where: whole}).get(record.where, a(Member))


def folder_name(sparsity: float) -> str:
    """The name of a member's folder.

    >>> folder_name(0.3), folder_name(0.975)
    ('sparsity-0.30', 'sparsity-0.975')
    """
    short = f"{sparsity:.2f}"
    return f"sparsity-{short if float(short) == sparsity else repr(sparsity)}"


def matrix_rows(
    model: TransformerLM, reference: Mapping[Place, int], masked: bool
) -> tuple[MatrixRow, ...]:
    """What is left of every matrix of ``reference`` (matrix -> parameters before).

    Stored parameters count; in a ``masked`` model only those that are not zero.
    """
    rows = []
    for place, linear in model.linears():
        if place not in reference:
            continue
        kept = linear.weights
        sizes = [linear.out_features, linear.in_features]
        form = ""
        if isinstance(linear, FactoredLinear):
            sizes.insert(1, linear.rank)
            form = ", interpolative" * (linear.shape.kind == "pivoted")
        elif masked and isinstance(linear, DenseLinear):
            kept = int(linear.weight.count_nonzero())
            form = ", sparse"
        form = " x ".join(map(str, sizes)) + form
        rows.append(MatrixRow(str(place), reference[place], kept, form))
    return tuple(rows)


def measured(rows: Sequence[MatrixRow]) -> float:
    """Fraction of the reference's parameters that is gone, over all rows."""
    reference = sum(row.reference for row in rows)
    return 1.0 - sum(row.kept for row in rows) / reference if reference else 0.0


def measure_member(
    folder: PathLike, reference: Mapping[Place, int], masked: bool, size: Optional[float] = None
) -> dict[str, Any]:
    """Sizes of a saved model, from its file: the measured fields of Member. ``size``: that of an
    elastic LM, which is cut to it."""
    saved = load_checkpoint(folder, mapped=True, size=size)
    rows = matrix_rows(saved.model, reference, masked)
    return {
        "measured": measured(rows),
        "parameters": count_parameters(saved.model),
        "nonzero_parameters": count_nonzero(saved.model),
        "bytes": saved.size_bytes(),
        "matrices": rows,
    }


def matrix_table(member: Member) -> str:
    """A text table of what was removed from each matrix, the total last."""
    lines = [f"{'matrix':<14} {'before':>9} {'after':>9} {'removed':>8}  form"]
    for row in member.matrices:
        lines.append(
            f"{row.matrix:<14} {row.reference:>9} {row.kept:>9} {row.sparsity:>7.1%}  {row.form}"
        )
    before = sum(row.reference for row in member.matrices)
    after = sum(row.kept for row in member.matrices)
    lines.append(
        f"{'all':<14} {before:>9} {after:>9} {member.measured:>7.1%}  asked {member.asked:.1%}"
    )
    return "\n".join(lines)


def family_table(family: Family) -> str:
    """A text table with one line per size, the parent first."""
    names = [family.name_of(member) for member in family.members]
    width = max(map(len, ["parent", *names]))
    lines = [f"{'model':<{width}} measured   params  nonzero       MB     ppl  tokens  note"]
    parent = family.parent
    lines.append(
        f"{'parent':<{width}} {'':>8} {_millions(parent['parameters'])} "
        f"{_millions(parent['nonzero_parameters'])} {parent['bytes'] / 1e6:>8.2f} "
        f"{_number(parent['perplexity'])} {'':>7}"
    )
    for name, member in zip(names, family.members):
        lines.append(
            f"{name:<{width}} {member.measured:>8.3f} {_millions(member.parameters)} "
            f"{_millions(member.nonzero_parameters)} {member.bytes / 1e6:>8.2f} "
            f"{_number(member.perplexity)} {member.tokens:>7}  {member.note}"
        )
    return "\n".join(line.rstrip() for line in lines)


def _millions(count: int) -> str:
    return f"{count / 1e6:>7.3f}M"


def _number(value: Optional[float]) -> str:
    return f"{'-':>7}" if value is None else f"{value:>7.2f}"
