"""Masks of single weights: what share of each matrix stays, and that nothing comes back."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.groups import Group
from asrprune.prune.masks import Masks
from asrprune.prune.methods import METHODS, Options
from asrprune.prune.methods.method import SCOPES, prunable_parameters
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.scorer import DataScorer
from asrprune.prune.selection import lowest
from asrprune.prune.statistics import MatrixStatistics
from tests.prune.small_models import DATA, FREE, SHAPES, silent, small_model
from tests.small_lm import drawn_model


def test_a_global_mask_keeps_a_share_of_every_matrix() -> None:
    model = silent(small_model())
    plan = Plan(criterion="magnitude")
    masks: Masks = {}
    total = sum(prunable_parameters(model, FREE.matrices).values())
    METHODS["unstructured"].apply(model, total // 10, DataScorer(plan, DATA, 0), Options(), masks)
    assert sum(int(mask.sum()) for mask in masks.values()) == total // 10
    assert all(mask.sum() >= 0.01 * mask.numel() for mask in masks.values())


@pytest.mark.parametrize("scope", ["matrix", "row"])
def test_scopes_remove_the_same_share_everywhere(scope: str) -> None:
    model = small_model()
    plan = Plan(criterion="taylor", statistics_tokens=60)
    masks: Masks = {}
    total = sum(prunable_parameters(model, FREE.matrices).values())
    options = Options(scope=scope)
    METHODS["unstructured"].apply(model, total // 4, DataScorer(plan, DATA, 0), options, masks)
    assert sum(int(mask.sum()) for mask in masks.values()) == total // 4
    for mask in masks.values():
        shares = mask.float().mean() if scope == "matrix" else mask.float().mean(1)
        assert torch.allclose(shares, torch.full_like(shares, 0.25))


class Reversed:
    """A scorer that at its second call finds best what it found worst at its first."""

    def __init__(self) -> None:
        self.sign = -1.0

    def scores(self, model: TransformerLM, groups: Sequence[Group]) -> list[Tensor]:
        self.sign = -self.sign
        found = []
        for number, group in enumerate(groups):
            rows, columns = group.matrix.shape
            tiles = rows // group.rows * columns
            order = torch.randperm(tiles, generator=torch.Generator().manual_seed(number))
            found.append(self.sign * (1.0 + order.float()).view(-1, columns))
        return found

    def statistics(
        self, model: TransformerLM, groups: Sequence[Group], needs: frozenset[str]
    ) -> list[MatrixStatistics]:
        return [MatrixStatistics() for _ in groups]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("method", ["unstructured", "block-4x1", "2:4"])
@pytest.mark.parametrize("name", SHAPES)
def test_what_is_removed_stays_removed_whatever_it_is_worth_later(
    name: str, method: str, scope: str
) -> None:
    model, scorer = drawn_model(SHAPES[name]), Reversed()
    total = sum(prunable_parameters(model, FREE.matrices).values())
    masks: Masks = {}
    options = Options(scope=scope, min_share=0.0)
    METHODS[method].apply(model, total * 3 // 4, scorer, options, masks)
    first = {place: mask.clone() for place, mask in masks.items()}
    METHODS[method].apply(model, total // 2, scorer, options, masks)
    assert sum(int(mask.sum()) for mask in masks.values()) == total // 2
    for place, linear in model.linears():
        assert not (masks[place] & ~first[place]).any()
        assert torch.equal(linear.product() != 0, masks[place])


@pytest.mark.parametrize("scope", ["matrix", "row"])
@pytest.mark.parametrize("method", ["unstructured", "block-4x1"])
def test_a_scope_makes_no_more_zeros_than_asked_after_uneven_ones(method: str, scope: str) -> None:
    model, scorer = small_model(), Reversed()
    total = sum(prunable_parameters(model, FREE.matrices).values())
    masks: Masks = {}
    uneven = Options(scope="global", min_share=0.0)
    METHODS[method].apply(
        model, total // 2, DataScorer(Plan(criterion="magnitude"), DATA, 0), uneven, masks
    )
    shares = [float(mask.float().mean()) for mask in masks.values()]
    assert max(shares) - min(shares) > 0.1
    for keep in (total // 2, total * 49 // 100, total // 3, total // 10):
        METHODS[method].apply(model, keep, scorer, Options(scope=scope), masks)
        kept = sum(int(mask.sum()) for mask in masks.values())
        assert abs(kept - keep) <= (2 if method == "block-4x1" else 0)
    with pytest.raises(ValueError, match="cannot go down to"):
        METHODS[method].apply(model, total // 2, scorer, Options(scope=scope), masks)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(("method", "near"), [("block-4x1", 2), ("2:4", 1), ("4:8", 2)])
def test_zeros_of_single_weights_stay_and_count(method: str, near: int, scope: str) -> None:
    """They are no part of the pattern: all that is left of a block or group goes, or stays."""
    model, scorer = drawn_model(SHAPES["gpt2"]), Reversed()
    total = sum(prunable_parameters(model, FREE.matrices).values())
    masks: Masks = {}
    single = Options(scope="matrix")
    METHODS["unstructured"].apply(model, total * 7 // 10, scorer, single, masks)
    for keep in (total * 7 // 10, total * 13 // 20, total // 2):
        before = {place: mask.clone() for place, mask in masks.items()}
        METHODS[method].apply(model, keep, scorer, Options(scope=scope, min_share=0.0), masks)
        assert abs(sum(int(mask.sum()) for mask in masks.values()) - keep) <= near
        for place, linear in model.linears():
            assert not (masks[place] & ~before[place]).any()
            assert torch.equal(linear.product() != 0, masks[place])


def test_the_least_share_of_matrices_is_held_by_score() -> None:
    """As many weights as matrices' least shares, rounded up, would have: none is held."""
    model = drawn_model(SHAPES["gpt2"])
    total = sum(prunable_parameters(model, FREE.matrices).values())
    keep = total // 200
    held: Masks = {}
    scorer, options = DataScorer(Plan(criterion="magnitude"), DATA, 0), Options(min_share=0.1)
    METHODS["unstructured"].apply(copy.deepcopy(model), keep, scorer, options, held)
    assert sum(int(mask.sum()) for mask in held.values()) == keep
    for place, linear in model.linears():
        worth = linear.product().detach().abs()
        count = int(held[place].sum())
        assert count >= math.floor(keep / total * worth.numel())
        assert torch.equal(held[place], ~lowest(worth, worth.numel() - count))


@pytest.mark.parametrize("scope", ["matrix", "row"])
def test_a_scope_makes_as_many_zeros_as_asked_however_small_the_steps(scope: str) -> None:
    model, scorer = small_model(), Reversed()
    masks: Masks = {}
    total = sum(prunable_parameters(model, FREE.matrices).values())
    for keep in range(total, total - 200, -7):
        METHODS["unstructured"].apply(model, keep, scorer, Options(scope=scope), masks)
        assert sum(int(mask.sum()) for mask in masks.values()) == keep
