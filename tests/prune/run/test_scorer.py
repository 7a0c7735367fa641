"""What methods are told: scores that can be repeated, of other sentences at every step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.groups import Group
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.scorer import DataScorer
from tests.prune.small_models import DATA, SHAPES
from tests.small_lm import drawn_model

PLAN = Plan(statistics_tokens=60)


def groups(model: TransformerLM) -> list[Group]:
    linears = dict(model.linears())
    columns = Group(Place(0, "ffn.down"), linears[Place(0, "ffn.down")], "weight", 16, 1, cost=48)
    return [columns, Group(Place(1, "attn.o"), linears[Place(1, "attn.o")], "weight", 1, 1, cost=1)]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_can_be_repeated_and_are_never_negative(criterion: str, name: str) -> None:
    model = drawn_model(SHAPES[name])
    scorer = DataScorer(replace(PLAN, criterion=criterion), DATA, 3)
    first, again = scorer.scores(model, groups(model)), scorer.scores(model, groups(model))
    for group, one, other in zip(groups(model), first, again):
        height, width = group.matrix.shape
        assert one.shape == (height // group.rows, width // group.columns)
        assert torch.equal(one, other)
        assert (one >= 0).all()
    assert any(one.any() for one in first)


def test_signed_scores_are_raised_by_the_same_for_every_parameter() -> None:
    model = drawn_model(SHAPES["llama"])
    scorer = DataScorer(replace(PLAN, criterion="movement"), DATA, 0)
    raised = scorer.scores(model, groups(model))
    found = scorer.statistics(model, groups(model), frozenset({"movement"}))
    plain = [group.tile_sum(one.need("movement")) for group, one in zip(groups(model), found)]
    per_weight = [(a - b) / group.cost for a, b, group in zip(raised, plain, groups(model))]
    floor = -min(float(one.min()) / group.cost for one, group in zip(plain, groups(model)))
    assert floor > 0
    for one in per_weight:
        torch.testing.assert_close(one, torch.full_like(one, floor), rtol=1e-3, atol=1e-6)
    assert min(float(one.min()) for one in raised) == pytest.approx(0.0, abs=1e-6)


def test_every_step_reads_other_sentences_and_whole_batches_of_them() -> None:
    model = drawn_model(SHAPES["gpt2"])
    seen = []
    for step in range(2):
        scorer = DataScorer(PLAN, DATA, step)
        (one, _) = scorer.statistics(model, groups(model), frozenset({"input_squared"}))
        assert one.tokens >= 60
        batches = list(scorer.batches(model))
        assert sum(batch.n_targets for batch in batches) == sum(
            len(sentence) + 1 for sentence in sentences()
        )
        seen.append(next(iter(DataScorer(PLAN, DATA, step).batches(model))).tokens.tolist())
    assert seen[0] != seen[1]
    small = DataScorer(replace(PLAN, statistics_tokens=1), DATA, 0)
    (one, _) = small.statistics(model, groups(model), frozenset({"gram"}))
    assert one.tokens == next(iter(small.batches(model))).n_targets


def sentences() -> list[list[int]]:
    return [DATA.train.sentence(number).tolist() for number in range(DATA.train.n_sentences)]
