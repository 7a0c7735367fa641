"""Places that shrink: which units stay, and what each level saves and loses."""

from __future__ import annotations

import pytest
import torch

from asrprune.prune.masks import Masks
from asrprune.prune.methods.choices import (
    Choice,
    best,
    kept_counts,
    refuse_masks,
    shrink,
    unit_chain,
)
from asrprune.prune.methods.method import prunable_parameters
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.scorer import DataScorer
from asrprune.prune.selection import Chain, lowest
from tests.prune.small_models import DATA, FREE, small_model


def test_what_stays_is_what_the_lowest_scores_leave() -> None:
    scores = torch.tensor([2.0, 1.0, 2.0, 1.0, 1.0, 0.0])
    for count in range(7):
        gone = lowest(scores, 6 - count)
        assert best(scores, count).tolist() == (~gone).nonzero().flatten().tolist()
    assert best(scores, 4).tolist() == [0, 2, 3, 4]  # of equal ones the later stay


def test_levels_of_equal_units_by_hand() -> None:
    chain = unit_chain("u", torch.tensor([0.5, 1.0, 4.0]), [3, 1, 0], [0, 20, 30])
    assert chain == Chain("u", (0, 20, 30), (0.0, 1.5, 5.5))


def test_counts_are_multiples_below_what_is_there() -> None:
    assert kept_counts(20, 19, 8, 8) == [20, 16, 8]
    assert kept_counts(16, 15, 0, 8) == [16, 8, 0]
    assert kept_counts(5, 4, 0, 8) == [5, 0]
    assert kept_counts(5, 4, 3, 1) == [5, 4, 3]
    assert kept_counts(4, 3, 5, 1) == [4]


def test_the_levels_that_meet_the_size_are_put_into_effect() -> None:
    model = small_model()
    total = sum(prunable_parameters(model, FREE.matrices).values())
    done: list[tuple[str, int]] = []
    choices = [
        Choice(
            Chain(name, (0, 100, 300), (0.0, loss, 3.0 * loss)),
            lambda level, name=name: done.append((name, level)),
        )
        for name, loss in (("cheap", 1.0), ("dear", 2.0))
    ]
    scorer = DataScorer(Plan(), DATA, 0)
    shrink(model, total - 300, choices, scorer, FREE)
    assert done == [("cheap", 2)]  # a choice of level 0 is left alone
    with pytest.raises(ValueError, match=f"the least that this method can keep is {total - 600}"):
        shrink(model, total - 601, choices, scorer, FREE)


def test_masked_models_are_refused() -> None:
    masks: Masks = {}
    refuse_masks(masks)
    masks[next(place for place, _ in small_model().linears())] = torch.ones(1, dtype=torch.bool)
    with pytest.raises(ValueError, match="the model is masked"):
        refuse_masks(masks)
