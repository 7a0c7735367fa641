"""Low rank in attention, neurons in the FFN, in one selection."""

from __future__ import annotations

import pytest

from asrprune.prune.methods import METHODS, Options
from asrprune.prune.methods.method import prunable_parameters
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.scorer import DataScorer
from tests.prune.small_models import DATA, SHAPES
from tests.small_lm import drawn_model


@pytest.mark.parametrize("name", SHAPES)
def test_ranks_leave_attention_and_neurons_the_ffn(name: str) -> None:
    model = drawn_model(SHAPES[name])
    options = Options(multiple_of=1, min_width=0, min_rank=0)
    total = sum(prunable_parameters(model, options.matrices).values())
    plan = Plan("kfac", "low-rank+structured", statistics_tokens=60)
    METHODS[plan.method].apply(model, total // 2, DataScorer(plan, DATA, 0), options, {})
    left = sum(prunable_parameters(model, options.matrices).values())
    assert left == pytest.approx(total // 2, abs=48)  # the largest unit: a neuron of llama
    forms = {(place.name, linear.shape.kind) for place, linear in model.linears()}
    assert {form for matrix, form in forms if matrix.startswith("ffn")} == {"dense"}
    assert "low_rank" in {form for matrix, form in forms if matrix.startswith("attn")}
    assert any(block.ffn < 16 for block in model.shape.blocks)
    assert [block.heads for block in model.shape.blocks] == [4, 4]
