"""Weight compensation."""

from __future__ import annotations

import pytest
import torch

from asrprune.prune.masks import Masks
from asrprune.prune.methods import METHODS, Options
from asrprune.prune.methods.compensation import OF_MASKS, obs
from asrprune.prune.methods.method import prunable_parameters
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.scorer import DataScorer
from asrprune.prune.surgery.factorisation import damped
from tests.prune.small_models import CASES, DATA, FREE, PRUNERS, logits
from tests.quick import slow


def test_obs_is_least_squares_and_for_one_weight_the_surgeons_update() -> None:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(300, 8, generator=generator) @ torch.randn(8, 8, generator=generator)
    weight = torch.randn(6, 8, generator=generator)
    kept = torch.rand(6, 8, generator=generator) < 0.6
    kept[0], kept[1] = True, False
    gram = x.T @ x / len(x)
    compensated = obs(weight, kept, gram)
    assert torch.equal(compensated[0], weight[0])  # bit for bit
    assert not compensated[~kept].any()
    solid = damped(gram.double())
    root = torch.linalg.cholesky(solid).T
    for row in range(2, 6):
        places = kept[row].nonzero().flatten()
        wanted = root @ weight[row].double()
        best = torch.linalg.lstsq(root[:, places], wanted[:, None]).solution.flatten()
        assert torch.allclose(compensated[row, places].double(), best, rtol=1e-4, atol=1e-5)
    alone = torch.ones(6, 8, dtype=torch.bool)
    alone[:, 3] = False
    inverse = torch.linalg.inv(solid)
    expected = weight.double() - weight[:, 3:4].double() / inverse[3, 3] * inverse[3]
    assert torch.allclose(obs(weight, alone, gram).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", ["plain", *slow(list(CASES)[1:])])
@pytest.mark.parametrize("method", [name for name in PRUNERS if METHODS[name].masks])
@pytest.mark.parametrize("compensation", OF_MASKS)
def test_every_compensation_keeps_masks_exact_and_nested(
    compensation: str, method: str, case: str
) -> None:
    model = CASES[case]()
    plan = Plan(criterion="activation", method=method, statistics_tokens=60)
    options = Options(compensation=compensation)
    total = sum(prunable_parameters(model, FREE.matrices).values())
    masks: Masks = {}
    before, dense = {}, logits(model)
    for step, sparsity in enumerate((0.0, 0.25, 0.5)):
        keep = total - round(sparsity * total)
        METHODS[method].apply(model, keep, DataScorer(plan, DATA, step), options, masks)
        if sparsity == 0.0:
            assert torch.equal(logits(model), dense)
        assert sum(int(mask.sum()) for mask in masks.values()) == keep
        for place, linear in model.linears():
            assert not linear.weight[~masks[place]].any()
            assert not (masks[place] & ~before.get(place, masks[place])).any()
        before = dict(masks)
    assert torch.isfinite(logits(model)).all()


def test_compensation_without_zeros_is_refused() -> None:
    with pytest.raises(ValueError, match="makes no zeros"):
        Plan(method="low-rank", options=Options(compensation="obs"))
