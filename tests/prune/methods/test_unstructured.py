"""Masks of single weights: what share of each matrix stays."""

from __future__ import annotations

import pytest
import torch

from asrprune.prune.masks import Masks
from asrprune.prune.methods import METHODS, Options
from asrprune.prune.methods.method import prunable_parameters
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.scorer import DataScorer
from tests.prune.small_models import DATA, FREE, silent, small_model


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
