"""Elastic LMs of products and neurons: attention factored, FFNs dense, both nested."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asrprune.api.example import tiny_lm
from asrprune.errors import InputError
from asrprune.lm.model.checkpoint import load_checkpoint, save_checkpoint
from asrprune.lm.model.matrices import DenseLinear, InterpolativeLinear, LowRankLinear
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.open import open_lm
from asrprune.prune.methods import Options
from asrprune.prune.run.family import ELASTIC, Family
from asrprune.prune.run.loop import prune_family
from asrprune.prune.run.plan import FineTuning, Plan
from asrprune.prune.run.steps import prune_in_memory
from tests.prune.elastic_lms import damaged, elastic_of, logits, of, stated, text
from tests.prune.small_models import DATA, SHAPES
from tests.small_lm import drawn_model

SIZES = (0.2, 0.5, 0.9)
PLAN = Plan(
    "kfac",
    "low-rank+structured",
    "elastic",
    SIZES,
    fine_tune_tokens=4000,
    statistics_tokens=200,
    options=Options(multiple_of=2, min_rank=0, min_width=0),
    fine_tuning=FineTuning(batch_tokens=256, precision="fp32"),
)


@pytest.fixture(scope="module", params=["factors", "interpolative"])
def made(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Path, Family]:
    folder = tmp_path_factory.mktemp("family")
    parent = load_checkpoint(save_checkpoint(folder / "lm", **of(tiny_lm())))
    plan = replace(PLAN, options=replace(PLAN.options, form=request.param))
    family = prune_family(parent, text(), plan, folder / "out", {}, {})
    return folder / "out" / ELASTIC, family


def test_attention_is_of_products_and_ffns_have_fewer_neurons(made: tuple[Path, Family]) -> None:
    place, family = made
    whole = load_checkpoint(place)
    elastic = elastic_of(whole)
    prunable = sum(linear.weights for _, linear in tiny_lm().model.linears())
    widths = []
    for member in family.members:
        assert member.measured == pytest.approx(member.asked, abs=0.02)
        cut = load_checkpoint(place, size=member.asked)
        kept = 0
        for name, linear in cut.model.linears():
            kept += linear.weights
            if name.name in cut.model.anatomy.ffn.matrices:
                assert isinstance(linear, DenseLinear)
            elif str(name) in elastic.costs:
                assert isinstance(linear, (LowRankLinear, InterpolativeLinear))
        assert member.measured == pytest.approx(1 - kept / prunable)
        widths.append([block.ffn for block in cut.model.shape.blocks])
    assert widths[0] > widths[1] > widths[2]
    assert set(elastic.neurons) < set(elastic.costs)
    assert all(biases == 2 for biases in elastic.neurons.values())


def test_smaller_sizes_have_the_first_neurons_of_larger_ones(made: tuple[Path, Family]) -> None:
    whole = load_checkpoint(made[0])
    down = {place: linear for place, linear in whole.model.linears() if "ffn" in place.name}
    for size in np.linspace(0.2, 0.9, 8):
        cut = whole.cut(float(size))
        for place, linear in cut.model.linears():
            if place not in down:
                continue
            before = down[place]
            assert isinstance(linear, DenseLinear)
            assert isinstance(before, DenseLinear)
            rows, columns = linear.weight.shape
            assert torch.equal(linear.weight, before.weight[:rows, :columns])
            assert linear.bias is not None
            assert before.bias is not None
            assert torch.equal(linear.bias, before.bias[:rows])


def test_a_cut_lm_computes_what_the_elastic_one_does_at_that_size(
    made: tuple[Path, Family], tmp_path: Path
) -> None:
    whole = load_checkpoint(made[0])
    elastic, uncut = elastic_of(whole), logits(whole.model)
    for size in (0.21, 0.5, 0.77):
        elastic.use(whole.model, elastic.steps_at(size))
        cut = whole.cut(size)
        torch.testing.assert_close(logits(cut.model), logits(whole.model), rtol=1e-4, atol=1e-4)
        stored = load_checkpoint(save_checkpoint(tmp_path / str(size), **of(cut)))
        assert stored.elastic is None
        assert torch.equal(logits(stored.model), logits(cut.model))
        near = 1000 if elastic.pivoted else 192
        assert abs(stored.size_bytes() - cut.size_bytes()) < near
        fits = load_checkpoint(made[0], size=f"{cut.size_bytes() / 1e6:.6f}MB")
        assert fits.size_bytes() == cut.size_bytes()
        good, bad = open_lm(made[0], size=size).score_lists([["the cat sat", "sat cat the"]])[0]
        assert good > bad
    elastic.use(whole.model, None)
    assert torch.equal(logits(whole.model), uncut)


def test_the_largest_size_is_the_checkpoint_itself(made: tuple[Path, Family]) -> None:
    place, family = made
    if not elastic_of(load_checkpoint(place)).pivoted:
        assert load_checkpoint(place).size_bytes() == family.members[0].bytes


def test_before_training_a_size_is_the_one_that_is_cut_alone(made: tuple[Path, Family]) -> None:
    """Both orders are those of the scores; with so few units a size is met to some per cent."""
    _, family = made
    options = replace(PLAN.options, form=family.plan["options"]["form"])
    plan = replace(PLAN, schedule="one-shot", fine_tune_tokens=0, options=options)
    alone = prune_in_memory(tiny_lm().model, text(), plan)
    for member, other in zip(family.members[:2], alone):
        own = other.perplexities_pruned[member.asked]
        assert own is not None
        assert member.perplexity_pruned is not None
        assert abs(math.log(member.perplexity_pruned / own)) < 0.25
        assert member.perplexity is not None
        assert member.perplexity < 1.01 * member.perplexity_pruned
    least = family.members[-1]
    assert (least.perplexity or math.inf) < 0.8 * (least.perplexity_pruned or 0.0)


@pytest.mark.parametrize("name", SHAPES)
def test_every_architecture(name: str) -> None:
    parent = drawn_model(SHAPES[name])
    options = Options(multiple_of=3, min_rank=0, min_width=0)
    plan = replace(PLAN, fine_tune_tokens=200, statistics_tokens=60, options=options)
    (one,), (again,) = (list(prune_in_memory(parent, DATA, plan)) for _ in range(2))
    assert one.elastic == again.elastic
    assert one.elastic is not None
    gated = name != "gpt2"
    assert set(one.elastic.neurons.values()) == {0 if gated else 3}
    for steps in (0, one.elastic.steps // 2, one.elastic.steps):
        cut = TransformerLM(one.model.shape)
        cut.load_state_dict(one.model.state_dict())
        one.elastic.use(one.model, steps)
        one.elastic.cut(cut, steps)
        torch.testing.assert_close(logits(cut.eval()), logits(one.model))
        kept = sum(linear.weights for _, linear in cut.linears())
        assert 1 - kept / one.elastic.prunable == pytest.approx(one.elastic.sparsity(steps))


def test_an_ffn_of_products_is_refused() -> None:
    factored = replace(PLAN, method="low-rank", schedule="one-shot", sparsities=(0.5,))
    (parent,) = prune_in_memory(tiny_lm().model, text(), replace(factored, fine_tune_tokens=0))
    with pytest.raises(ValueError, match=r"ffn\.\w+ is a product; expected an LM with dense FFNs"):
        list(prune_in_memory(parent.model, text(), PLAN))


@pytest.mark.parametrize(
    "change",
    [
        lambda neurons: dict.fromkeys(neurons, 1),
        lambda neurons: {},
        lambda neurons: dict.fromkeys(neurons, -1),
        lambda neurons: {**neurons, "0.attn.q": 0},
        lambda neurons: {**neurons, "7.ffn.down": 2},
    ],
)
def test_damaged_neurons_are_an_error_of_the_file(
    made: tuple[Path, Family], tmp_path: Path, change: Any
) -> None:
    place = damaged(made[0], tmp_path / "lm", "neurons", change(stated(made[0], "neurons")))
    with pytest.raises(InputError, match=r"config\.json"):
        load_checkpoint(place)
