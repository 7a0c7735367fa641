"""Matrices fitted to the outputs of the uncut model."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import pytest
import torch

from asrprune.lm.model.matrices import LowRankLinear, Matrix
from asrprune.lm.model.shapes import ModelShape, Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED
from asrprune.prune.methods import METHODS, Options
from asrprune.prune.methods.anchored import anchored
from asrprune.prune.methods.method import prunable_parameters
from asrprune.prune.run.plan import Plan, plan_from_dict
from asrprune.prune.run.scorer import DataScorer
from tests.prune.small_models import DATA, FREE, V, small_model

ANCHORED = replace(FREE, compensation="anchored", multiple_of=1)
PLAN = Plan(criterion="kfac", statistics_tokens=10**6)  # all of the data


def inputs(model: TransformerLM, place: Place) -> torch.Tensor:
    """What a matrix gets to multiply over all of the data, float64 [N, in]."""
    found: list[torch.Tensor] = []
    batches = list(DataScorer(PLAN, DATA, 0).batches(model))
    linear = dict(model.linears())[place]
    with torch.no_grad():
        for batch in batches:
            kept: list[torch.Tensor] = []
            handle = linear.register_forward_pre_hook(
                lambda _, given, kept=kept: kept.append(given[0])
            )
            model(batch.tokens)
            handle.remove()
            found.append(kept[0][batch.targets != IGNORED])
    return torch.cat(found).double()


def outputs(linear: Matrix, x: torch.Tensor) -> torch.Tensor:
    bias = 0.0 if linear.bias is None else linear.bias.detach().double()
    return x @ linear.product().detach().double().T + bias


def lively(model: TransformerLM) -> TransformerLM:
    """Weights far enough from zero for effects to show."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)
    return model


def pruned(model: TransformerLM, method: str, options: Options, share: float) -> TransformerLM:
    made = copy.deepcopy(model)
    total = sum(prunable_parameters(model, options.matrices).values())
    METHODS[method].apply(made, round(share * total), DataScorer(PLAN, DATA, 0), options, {})
    return made


def test_the_reader_of_fewer_neurons_is_the_best_there_is() -> None:
    model = lively(small_model())
    only_ffn = replace(ANCHORED, matrices=("ffn.up", "ffn.down"))
    made = pruned(model, "structured", only_ffn, 0.5)
    plain = pruned(model, "structured", replace(only_ffn, compensation="none"), 0.5)
    place = next(place for place, linear in made.linears() if place.name == "ffn.down")
    whole, fitted, cut = (dict(one.linears())[place] for one in (model, made, plain))
    assert fitted.in_features == cut.in_features < whole.in_features
    wanted, x = outputs(whole, inputs(model, place)), inputs(made, place)
    with_ones = torch.cat([x, torch.ones(len(x), 1).double()], 1)
    best = torch.linalg.lstsq(with_ones, wanted).solution
    least = (with_ones @ best - wanted).square().sum()
    lost = (outputs(fitted, x) - wanted).square().sum()
    assert lost <= 1.001 * least + 1e-9
    assert lost < 0.9 * (outputs(cut, x) - wanted).square().sum()


def test_the_components_are_the_best_of_their_number() -> None:
    model = lively(small_model())
    options = replace(ANCHORED, matrices=("ffn.down",), factorisation="activation-aware")
    made = pruned(model, "low-rank", options, 0.4)
    place = next(p for p, one in made.linears() if isinstance(one, LowRankLinear))
    whole, fitted = (dict(one.linears())[place] for one in (model, made))
    assert isinstance(fitted, LowRankLinear)
    x = inputs(made, place)
    wanted, centred = outputs(whole, inputs(model, place)), x - x.mean(0)
    full = torch.linalg.lstsq(centred, wanted - wanted.mean(0)).solution
    values = torch.linalg.svdvals(centred @ full)
    unexplained = (centred @ full - (wanted - wanted.mean(0))).square().sum()
    least = unexplained + values[fitted.rank :].square().sum()
    assert (outputs(fitted, x) - wanted).square().sum() == pytest.approx(float(least), rel=2e-3)


@pytest.mark.parametrize("form", ["factors", "interpolative"])
@pytest.mark.parametrize("method", ["structured", "low-rank", "low-rank+structured"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_stream_at_the_end_is_nearer_to_what_it_was(
    architecture: str, method: str, form: str
) -> None:
    """Of three LMs together."""
    details = {} if architecture == "gpt2" else {"kv_heads": 2}
    shape = ModelShape.uniform(V, 16, 2, 4, 32, 12, architecture=architecture, **details)
    off = {"none": 0.0, "anchored": 0.0}
    for seed, compensation in itertools.product((1, 2, 3), off):
        torch.manual_seed(seed)
        model = lively(TransformerLM(shape).eval())
        options = replace(ANCHORED, compensation=compensation, form=form)
        made = pruned(model, method, options, 0.5)
        errors = [
            (made(batch.tokens)[0] - model(batch.tokens)[0])[batch.targets != IGNORED]
            for batch in DataScorer(PLAN, DATA, 0).batches(model)
        ]
        off[compensation] += float(torch.cat(errors).detach().square().mean())
        assert made.shape == pruned(model, method, options, 0.5).shape
    assert off["anchored"] < 0.9 * off["none"]


def test_what_was_not_made_smaller_stays_bit_for_bit() -> None:
    model = lively(small_model())
    made = copy.deepcopy(model)
    anchored(model, made, DataScorer(PLAN, DATA, 0), ANCHORED)
    for (name, one), two in zip(model.state_dict().items(), made.state_dict().values()):
        assert torch.equal(one, two), name


@pytest.mark.parametrize(
    ("method", "schedule", "line"),
    [
        ("unstructured", "cubic", "expected none or obs, as method unstructured makes nothing but"),
        ("depth", "cubic", "expected none, as method depth makes no zeros"),
        ("low-rank", "elastic", "expected none, as schedule elastic fits no size alone"),
    ],
)
def test_where_it_has_no_use_it_is_refused(method: str, schedule: str, line: str) -> None:
    values = {"method": method, "schedule": schedule, "options": {"compensation": "anchored"}}
    with pytest.raises(ValueError, match=line):
        plan_from_dict({**values, "sparsities": [0.5, 0.7]}, Plan())
