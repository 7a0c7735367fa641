"""Families: what a run saves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asrprune.errors import InputError
from asrprune.lm.model.checkpoint import load_checkpoint, save_checkpoint
from asrprune.lm.model.matrices import DenseLinear, InterpolativeLinear, LowRankLinear, Matrix
from asrprune.lm.model.shapes import ModelShape, Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.methods import METHODS, Options
from asrprune.prune.run.family import (
    FAMILY,
    Family,
    MatrixRow,
    Member,
    family_table,
    folder_name,
    matrix_rows,
    matrix_table,
    measured,
    read_family,
    write_family,
)
from asrprune.prune.run.loop import prune_family
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.schedules import SCHEDULES
from asrprune.prune.run.steps import valid_perplexity
from tests.prune.small_models import DATA, PRUNERS, SHAPES, V, logits, small_model
from tests.small_lm import drawn_model

PAIRS = [
    (method, schedule)
    for method in PRUNERS
    for schedule in SCHEDULES
    if schedule != "elastic" or METHODS[method].elastic is not None
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "schedule"), PAIRS)
def test_every_criterion_method_and_schedule_makes_a_family(
    method: str, schedule: str, tmp_path: Path
) -> None:
    """Saved members load without flags, have the size that was asked, and are nested."""
    (tmp_path / "pieces").write_bytes(b"pieces")
    dense = save_checkpoint(tmp_path / "lm", small_model(), tmp_path / "pieces", {})
    sizes = (0.2, 0.4)
    off = {"depth": 0.18, "structured": 0.1, "low-rank": 0.06, "low-rank+structured": 0.06}
    off |= {"width": 0.5 / 16, "width+structured": 0.1}
    for criterion in CRITERIA:
        options = Options(min_width=1, min_rank=1, multiple_of=1)
        plan = Plan(
            criterion, method, schedule, sizes, 3, 64, statistics_tokens=60, options=options
        )
        out = tmp_path / criterion
        parent = load_checkpoint(dense)
        family = prune_family(parent, DATA, plan, out, {}, {})
        assert [member.asked for member in family.members] == list(sizes)
        before = None
        for member in family.members:
            assert abs(member.measured - member.asked) <= off.get(method, 0.003), criterion
            size = member.asked if schedule == "elastic" else None
            saved = load_checkpoint(out / member.folder, size=size).model
            assert torch.isfinite(logits(saved)).all()
            kept = dict(saved.linears())
            assert member.faster != METHODS[method].masks
            for key, linear in kept.items() if before and schedule != "one-shot" else ():
                assert _nested(before[key], linear), (criterion, key)
            before = kept


def _nested(large: Matrix, small: Matrix) -> bool:
    """Nothing is in the smaller matrix that was gone from the larger one."""
    if isinstance(large, DenseLinear) and isinstance(small, DenseLinear):
        if large.weight.shape == small.weight.shape:
            return not (small.weight[large.weight == 0]).any()
        return small.weight.numel() <= large.weight.numel()
    return small.weights <= large.weights


def member(asked: float, measured: float = 0.5) -> Member:
    name = folder_name(asked)
    rows = (MatrixRow("0.attn.q", 100, 40, "10 x 10, sparse"), MatrixRow("0.ffn.up", 50, 50, ""))
    return Member(asked, measured, name, 9, 8, 7, False, None, 12.5, 3, 2, 0.5, rows)


FAMILY_OF_TWO = (
    Family(
        {"method": "depth", "criterion": "taylor", "schedule": "linear"},
        {"parameters": 10, "nonzero_parameters": 10, "bytes": 20, "perplexity": None},
    )
    .with_member(member(0.7))
    .with_member(member(0.3))
)


def test_members_stand_by_size_and_each_size_once() -> None:
    assert [one.asked for one in FAMILY_OF_TWO.members] == [0.3, 0.7]
    again = FAMILY_OF_TWO.with_member(member(0.7, measured=0.71))
    assert [(one.asked, one.measured) for one in again.members] == [(0.3, 0.5), (0.7, 0.71)]
    assert len(FAMILY_OF_TWO.members) == 2  # it was not changed


def test_a_family_comes_back_as_written(tmp_path: Path) -> None:
    write_family(tmp_path, FAMILY_OF_TWO)
    assert read_family(tmp_path) == FAMILY_OF_TWO


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"format": "other"}, "not a family"),
        ({"members": [{"asked": 0.3}]}, "tokens is missing"),
        ({"plan": None, "parent": None, "members": None}, "plan is null"),
    ],
)
def test_damaged_families_are_named(tmp_path: Path, change: dict[str, object], found: str) -> None:
    write_family(tmp_path, FAMILY_OF_TWO)
    file = tmp_path / FAMILY
    value = json.loads(file.read_text())
    del value["crc32"]  # as after a change by hand
    file.write_text(json.dumps({**value, **change}))
    with pytest.raises(InputError, match=found):
        read_family(tmp_path)


@pytest.mark.parametrize("name", SHAPES)
def test_rows_count_what_is_stored_or_not_zero(name: str) -> None:
    model = drawn_model(SHAPES[name])
    place = Place(1, "attn.o")
    with torch.no_grad():
        dict(model.linears())[place].product()[:, :3] = 0.0
    reference = {one: 1000 for one, _ in model.linears() if one.name != "attn.k"}
    stored, masked = (matrix_rows(model, reference, which) for which in (False, True))
    assert [row.matrix for row in stored] == list(map(str, reference))
    width = dict(model.linears())[place].in_features
    by_name = {row.matrix: row for row in masked}
    for row in stored:
        zeros = 3 * 16 if row.matrix == str(place) else 0
        assert by_name[row.matrix].kept == row.kept - zeros
    assert by_name[str(place)].form == f"16 x {width}, sparse"
    assert by_name[str(place)].sparsity == pytest.approx(1 - (16 * width - 48) / 1000)
    total = sum(row.kept for row in masked)
    assert measured(masked) == pytest.approx(1 - total / (1000 * len(masked)))
    assert measured(()) == 0.0


def test_forms_of_factored_matrices() -> None:
    model = drawn_model(SHAPES["gpt2"])
    up = dict(model.linears())[Place(0, "ffn.up")]
    a, b = torch.randn(16, 3), torch.randn(3, 16)
    model.put(Place(0, "ffn.up"), LowRankLinear.from_factors(a, b, up.bias))
    model.put(Place(1, "ffn.up"), InterpolativeLinear.from_factors(a, b, up.bias))
    reference = {Place(block, "ffn.up"): 256 for block in (0, 1)}
    low, interpolative = matrix_rows(model, reference, True)
    assert (low.kept, low.form) == (3 * 32, "16 x 3 x 16")
    assert (interpolative.kept, interpolative.form) == (3 * 29, "16 x 3 x 16, interpolative")


@pytest.mark.parametrize(
    ("method", "schedule"),
    [("structured", "one-shot"), ("unstructured", "one-shot"), ("low-rank", "elastic")],
)
def test_zeros_of_the_embedding_leave_the_file(method: str, schedule: str, tmp_path: Path) -> None:
    (tmp_path / "pieces").write_bytes(b"pieces")
    parent = save_checkpoint(tmp_path / "lm", small_model(), tmp_path / "pieces", {})
    dense = load_checkpoint(parent)
    plan = Plan("kfac", method, schedule, (0.2, 0.4), 3, 64, statistics_tokens=60)
    plan = replace(plan, options=Options(min_width=1, min_rank=1, multiple_of=1))
    zeros = replace(plan, options=replace(plan.options, embedding_sparsity=0.75))
    plain = prune_family(dense, DATA, plan, tmp_path / "plain", {}, {})
    family = prune_family(dense, DATA, zeros, tmp_path / "zeros", {}, {})
    weights = dense.model.embedding.weight.numel()
    for one, other in zip(family.members, plain.members, strict=True):
        assert one.faster == other.faster == (method != "unstructured")
        assert one.measured == other.measured
        assert [row.form for row in one.matrices] == [row.form for row in other.matrices]
        saved = 4 * 0.75 * weights - weights / 8
        assert other.bytes - one.bytes == pytest.approx(saved, abs=300)  # and some names
        size = one.asked if schedule == "elastic" else None
        table = load_checkpoint(tmp_path / "zeros" / one.folder, size=size).model.embedding.weight
        assert int(table.count_nonzero()) == round(0.25 * weights)


@pytest.mark.parametrize("method", ["structured", "unstructured"])
def test_zeros_of_positions_leave_the_file(method: str, tmp_path: Path) -> None:
    (tmp_path / "pieces").write_bytes(b"pieces")
    torch.manual_seed(0)
    model = TransformerLM(ModelShape.uniform(V, 16, 2, 2, max_positions=200)).eval()
    dense = load_checkpoint(save_checkpoint(tmp_path / "lm", model, tmp_path / "pieces", {}))
    plan = Plan("kfac", method, "one-shot", (0.2,), 3, 64, statistics_tokens=60)
    plan = replace(plan, options=Options(min_width=1, multiple_of=1))
    zeros = replace(plan, options=replace(plan.options, positions_sparsity=0.9))
    (other,) = prune_family(dense, DATA, plan, tmp_path / "plain", {}, {}).members
    (one,) = prune_family(dense, DATA, zeros, tmp_path / "zeros", {}, {}).members
    assert (one.measured, one.faster) == (other.measured, other.faster)
    saved = 4 * 0.9 * 200 * 16 - 200 * 16 / 8
    assert other.bytes - one.bytes == pytest.approx(saved, abs=300)  # and some names
    table = load_checkpoint(tmp_path / "zeros" / one.folder).model.positions
    assert table is not None
    assert int(table.count_nonzero()) == round(0.1 * 200 * 16)


def test_tables_say_what_is_faster() -> None:
    smaller = replace(member(0.5), faster=True)
    lines = family_table(FAMILY_OF_TWO.with_member(smaller)).splitlines()
    names = [f"depth-taylor-linear {size}" for size in (0.3, 0.5, 0.7)]
    assert [line.split("  ")[0].strip() for line in lines[1:]] == ["parent", *names]
    assert [("not faster" in line) for line in lines[2:]] == [True, False, True]
    assert not any("not fine-tuned" in line for line in lines)
    bare = FAMILY_OF_TWO.with_member(replace(member(0.7), tokens=0, fine_tuned=False))
    assert family_table(bare).splitlines()[-1].endswith("sparse, not faster; not fine-tuned")


def test_tables_say_where_fine_tuning_made_it_worse() -> None:
    worse, better = (
        replace(member(size), perplexity_pruned=before)
        for size, before in ((0.3, 12.25), (0.7, 13))
    )
    lines = family_table(FAMILY_OF_TWO.with_member(worse).with_member(better)).splitlines()
    advice = "ppl 12.25 before fine-tuning: lower its rates, or give it more tokens"
    assert [line.split("faster")[1] for line in lines[2:]] == [f"; {advice}", ""]


def test_a_family_of_before_says_whether_it_was_fine_tuned(tmp_path: Path) -> None:
    write_family(tmp_path, FAMILY_OF_TWO.with_member(replace(member(0.7), tokens=0)))
    value = json.loads((tmp_path / "family.json").read_text())
    del value["crc32"]
    for one in value["members"]:
        del one["fine_tuned"]
    (tmp_path / "family.json").write_text(json.dumps(value))
    assert [one.fine_tuned for one in read_family(tmp_path).members] == [True, False]


def test_tables_of_matrices() -> None:
    rows = matrix_table(member(0.3)).splitlines()
    assert rows[1].split() == ["0.attn.q", "100", "40", "60.0%", "10", "x", "10,", "sparse"]
    assert rows[-1].split() == ["all", "150", "90", "50.0%", "asked", "30.0%"]


def test_members_are_stored_in_the_number_format_of_the_parent(tmp_path: Path) -> None:
    (tmp_path / "pieces").write_bytes(b"pieces")
    model = drawn_model(SHAPES["llama"])
    half = save_checkpoint(tmp_path / "lm", model, tmp_path / "pieces", {}, dtype=torch.bfloat16)
    parent = load_checkpoint(half)
    assert parent.model.dtype == torch.float32
    plan = Plan("taylor", "structured", "one-shot", (0.5,), 1, 100, statistics_tokens=60)
    data = replace(DATA, valid=DATA.train)
    (member,) = prune_family(parent, data, plan, tmp_path / "out", {}, {}).members
    saved = load_checkpoint(tmp_path / "out" / member.folder)
    assert saved.stored == torch.bfloat16
    assert member.bytes < 3 * member.parameters
    assert member.perplexity == pytest.approx(valid_perplexity(saved.model, data, plan), rel=1e-6)
