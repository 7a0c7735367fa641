"""Low rank in attention and neurons in the FFN in one selection; width, then structured."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.methods import METHODS, Options
from asrprune.prune.methods.method import prunable_parameters
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.scorer import DataScorer
from tests.prune.small_models import DATA, SHAPES, logits
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


FREE = Options(multiple_of=1, min_width=0, min_heads=0)


def prunable(model: TransformerLM) -> int:
    return sum(prunable_parameters(model, FREE.matrices).values())


def shrunk(name: str, method: str, keep: float, options: Options) -> TransformerLM:
    """A model with this fraction of its prunable weights."""
    model = drawn_model(SHAPES[name])
    plan = Plan("kfac", method, statistics_tokens=60)
    scorer = DataScorer(plan, DATA, 0)
    METHODS[method].apply(model, round(keep * prunable(model)), scorer, options, {})
    return model


@pytest.mark.parametrize("name", SHAPES)
def test_width_takes_its_share_of_the_factor(name: str) -> None:
    dense = drawn_model(SHAPES[name])
    model = shrunk(name, "width+structured", 0.25, replace(FREE, width_share=0.5))
    assert model.width == dense.width // 2  # a quarter to the power of a half
    assert prunable(model) == pytest.approx(prunable(dense) // 4, abs=48)
    assert any(block.ffn < 16 for block in model.shape.blocks)


@pytest.mark.parametrize(("share", "alone"), [(0.0, "structured"), (1.0, "width")])
def test_the_ends_of_the_share_are_the_methods_alone(share: float, alone: str) -> None:
    model = shrunk("gpt2", "width+structured", 0.5, replace(FREE, width_share=share))
    assert torch.equal(logits(model), logits(shrunk("gpt2", alone, 0.5, FREE)))


def test_steps_share_as_one_does_and_the_stream_never_vanishes() -> None:
    model = drawn_model(SHAPES["gpt2"])
    total, options = prunable(model), replace(FREE, width_share=0.5)
    plan = Plan("magnitude", "width+structured", statistics_tokens=60)
    for step, (keep, width) in enumerate([(0.5, 11), (0.25, 8), (0.0, 8)]):
        scorer = DataScorer(plan, DATA, step)
        METHODS[plan.method].apply(model, round(keep * total), scorer, options, {})
        assert model.width == width
    assert prunable(model) == 0
    assert torch.isfinite(logits(model)).all()


def test_masked_models_are_refused() -> None:
    plan = Plan("magnitude", "width+structured", statistics_tokens=60)
    masks = {Place(0, "attn.q"): torch.ones(1, dtype=torch.bool)}
    with pytest.raises(ValueError, match="masked"):
        METHODS[plan.method].apply(
            drawn_model(SHAPES["gpt2"]), 10, DataScorer(plan, DATA, 0), FREE, masks
        )
