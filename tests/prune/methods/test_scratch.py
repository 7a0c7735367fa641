"""The baseline of the same size with fresh weights."""

from __future__ import annotations

import pytest
import torch

from asrprune.prune.methods import METHODS, Options
from asrprune.prune.methods.method import prunable_parameters
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.scorer import DataScorer
from tests.prune.small_models import DATA, FREE, small_model


def test_the_baseline_is_dense_fresh_and_of_the_asked_size() -> None:
    for sparsity in (0.0, 0.3, 0.5, 0.7):
        model = small_model()
        old = model.blocks[0].linear("attn.q").weight.detach().clone()
        total = sum(prunable_parameters(model, FREE.matrices).values())
        keep = total - round(sparsity * total)
        plan = Plan(method="scratch", schedule="one-shot")
        METHODS["scratch"].apply(model, keep, DataScorer(plan, DATA, 0), Options(), {})
        assert abs(sum(prunable_parameters(model, FREE.matrices).values()) - keep) <= 0.05 * total
        assert all(not block.linears for block in model.shape.blocks)
        new = model.blocks[0].linear("attn.q").weight
        assert new.shape != old.shape or not torch.equal(new, old)
    with pytest.raises(ValueError, match="expected one-shot"):
        Plan(method="scratch", schedule="cubic")
