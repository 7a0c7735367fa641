"""Families: what a run saves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from asrprune.lm.model.checkpoint import load_checkpoint, save_checkpoint
from asrprune.lm.model.matrices import DenseLinear, Matrix
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.methods import METHODS, Options
from asrprune.prune.run import loop
from asrprune.prune.run.loop import prune_family
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.schedules import SCHEDULES
from tests.prune.small_models import DATA, PRUNERS, logits, small_model


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("method", PRUNERS)
def test_every_criterion_method_and_schedule_makes_a_family(
    method: str, schedule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved members load without flags, have the size that was asked, and are nested."""
    monkeypatch.setattr(loop, "plot_if_possible", lambda folder, family: None)
    (tmp_path / "pieces").write_bytes(b"pieces")
    dense = save_checkpoint(tmp_path / "lm", small_model(), tmp_path / "pieces", {})
    sizes = (0.2, 0.4)
    off = {"depth": 0.18, "structured": 0.1, "low-rank": 0.06, "low-rank+structured": 0.06}
    off["width"] = 0.5 / 16
    for criterion in CRITERIA:
        options = Options(min_width=1, min_rank=1, multiple_of=1)
        plan = Plan(
            criterion, method, schedule, sizes, 3, 64, statistics_tokens=60, options=options
        )
        out = tmp_path / criterion
        parent = load_checkpoint(dense)
        family = prune_family(parent, DATA, plan, out, {}, {})
        assert [member.asked for member in family.members] == list(sizes)
        before = None
        for member in family.members:
            assert abs(member.measured - member.asked) <= off.get(method, 0.003), criterion
            saved = load_checkpoint(out / member.folder).model
            assert torch.isfinite(logits(saved)).all()
            kept = dict(saved.linears())
            assert member.faster != METHODS[method].masks
            for key, linear in kept.items() if before and schedule != "one-shot" else ():
                assert _nested(before[key], linear), (criterion, key)
            before = kept


def _nested(large: Matrix, small: Matrix) -> bool:
    """Nothing is in the smaller matrix that was gone from the larger one."""
    if isinstance(large, DenseLinear) and isinstance(small, DenseLinear):
        if large.weight.shape == small.weight.shape:
            return not (small.weight[large.weight == 0]).any()
        return small.weight.numel() <= large.weight.numel()
    return small.weights <= large.weights
