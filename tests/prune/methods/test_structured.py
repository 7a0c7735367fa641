"""Neurons and heads: what a choice says that it saves is what it saves, shared heads too."""

from __future__ import annotations

import copy

import pytest
import torch

from asrprune.lm.model.shapes import BlockShape, ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.methods import METHODS, Options
from asrprune.prune.methods.method import HEAD_UNITS, prunable_parameters
from asrprune.prune.methods.structured import unit_choices
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.scorer import DataScorer
from tests.prune.small_models import DATA, FREE, SHAPES, V
from tests.small_lm import drawn_model

UNEVEN = ModelShape(
    V, 16, 4, 12, (BlockShape(6, 16, groups=(1, 3, 2)), BlockShape(2, 8)), architecture="llama"
)
MODELS = {**SHAPES, "uneven groups": UNEVEN}
BY_MAGNITUDE = DataScorer(Plan("magnitude", "structured"), DATA, 0)


def options(unit: str, **more: int) -> Options:
    limits = {"min_heads": 0, "min_width": 0, "multiple_of": 4, **more}
    return Options(head_unit=unit, **limits)  # type: ignore[arg-type]


def stored(model: TransformerLM) -> int:
    return sum(prunable_parameters(model, FREE.matrices).values())


@pytest.mark.parametrize("unit", HEAD_UNITS)
@pytest.mark.parametrize("name", MODELS)
def test_every_level_saves_what_it_says(name: str, unit: str) -> None:
    model = drawn_model(MODELS[name])
    count = len(unit_choices(model, BY_MAGNITUDE, options(unit)))
    assert count == 2 * len(model.layers())
    for number in range(count):
        levels = len(unit_choices(model, BY_MAGNITUDE, options(unit))[number].chain.saved)
        for level in range(1, levels):
            smaller = copy.deepcopy(model)
            choice = unit_choices(smaller, BY_MAGNITUDE, options(unit))[number]
            choice.apply(level)
            assert stored(model) - stored(smaller) == choice.chain.saved[level]


def loud(model: TransformerLM, heads: tuple[int, ...]) -> TransformerLM:
    """The first block's query heads, ``heads`` of which matter most, the first of them the most."""
    attention, size = model.layers()[0].attn, model.layers()[0].attn.head_dim
    with torch.no_grad():
        for rank, head in enumerate(heads):
            attention.o.weight[:, head * size : (head + 1) * size] *= 100.0 / (rank + 1)
    return model


def test_query_heads_leave_with_their_group_or_alone() -> None:
    """Groups of 1, 3 and 2 heads: by groups the loud one stays, alone the best of every group."""
    by_group = loud(drawn_model(UNEVEN), (4,))
    attention = unit_choices(by_group, BY_MAGNITUDE, options("group", min_heads=1))[1]
    attention.apply(len(attention.chain.saved) - 1)
    assert by_group.layers()[0].attn.groups == (2,)  # heads 4 and 5
    alone = loud(drawn_model(UNEVEN), (4, 1, 0, 2))
    before = alone.layers()[0].attn.q.product().detach().view(6, 4, 16)
    attention = unit_choices(alone, BY_MAGNITUDE, options("query"))[1]
    attention.apply(len(attention.chain.saved) - 1)
    assert alone.layers()[0].attn.groups == (1, 1, 1)
    assert alone.layers()[0].attn.owners.tolist() == [0, 1, 2]
    kept = alone.layers()[0].attn.q.product().view(3, 4, 16)
    torch.testing.assert_close(kept, before[[0, 1, 4]])


def test_units_leave_by_score_per_weight() -> None:
    """A group of one head holds as many weights of keys and values as a group of three."""
    block = BlockShape(6, 16, groups=(3, 2, 1))
    model = drawn_model(ModelShape(V, 16, 4, 12, (block,), architecture="llama"))
    with torch.no_grad():
        for linear in (model.layers()[0].linear(f"attn.{one}") for one in "qkvo"):
            linear.product().fill_(1.0)  # all heads have one score
    unit_choices(model, BY_MAGNITUDE, options("group"))[1].apply(1)
    assert model.layers()[0].attn.groups == (3, 2)


def test_matrices_without_a_whole_unit_are_refused() -> None:
    model = drawn_model(SHAPES["llama"])
    half = Options(matrices=("ffn.gate", "ffn.down", "attn.q"))
    with pytest.raises(ValueError, match=r"hold no whole unit; expected all of ffn\.gate, ffn\.up"):
        METHODS["structured"].apply(model, 10, BY_MAGNITUDE, half, {})
