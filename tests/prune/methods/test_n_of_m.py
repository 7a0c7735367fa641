"""N:M: the lowest N of M neighbours, in the groups that lose least."""

from __future__ import annotations

import pytest
import torch

from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.masks import Masks
from asrprune.prune.methods import METHODS
from asrprune.prune.methods.method import prunable_parameters
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.scorer import DataScorer
from tests.prune.small_models import DATA, FREE, SHAPES, V
from tests.small_lm import drawn_model

PATTERNS = {"2:4": (2, 4), "4:8": (4, 8)}


def masked(model: TransformerLM, method: str, share: float) -> Masks:
    total = sum(prunable_parameters(model, FREE.matrices).values())
    masks: Masks = {}
    plan = Plan("magnitude", method)
    METHODS[method].apply(
        model, total - round(share * total), DataScorer(plan, DATA, 0), FREE, masks
    )
    return masks


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("method", PATTERNS)
def test_the_smallest_of_every_group_leave(name: str, method: str) -> None:
    zeros, of = PATTERNS[method]
    model = drawn_model(SHAPES[name])
    before = {place: linear.product().detach().clone() for place, linear in model.linears()}
    masks = masked(model, method, 0.5)
    for place, weight in before.items():
        groups = weight.abs().view(-1, of)
        kept = masks[place].view(-1, of)
        assert (kept.sum(1) == of - zeros).all()
        smallest = groups.masked_fill(~kept, torch.inf).amin(1)
        assert (groups.masked_fill(kept, 0.0).amax(1) <= smallest).all()


@pytest.mark.parametrize("method", PATTERNS)
def test_groups_that_lose_least_go_first(method: str) -> None:
    zeros, of = PATTERNS[method]
    model = drawn_model(SHAPES["gpt2"])
    losses = {
        place: linear.product().detach().square().view(-1, of).sort(1).values[:, :zeros].sum(1)
        for place, linear in model.linears()
    }
    masks = masked(model, method, 0.25)
    done = {place: (~masks[place].view(-1, of)).any(1) for place in losses}
    lost = torch.cat([losses[place][done[place]] for place in losses])
    left = torch.cat([losses[place][~done[place]] for place in losses])
    assert len(lost) == len(left)
    assert lost.max() <= left.min()


@pytest.mark.parametrize("method", PATTERNS)
def test_groups_with_zeros_before_go_by_what_is_left_of_them(method: str) -> None:
    zeros, of = PATTERNS[method]
    model = drawn_model(SHAPES["gpt2"])
    masks = masked(model, "unstructured", 0.3)
    before = {place: mask.view(-1, of) for place, mask in masks.items()}
    weights = {place: linear.product().detach().clone() for place, linear in model.linears()}
    total = sum(prunable_parameters(model, FREE.matrices).values())
    scorer = DataScorer(Plan("magnitude", method), DATA, 0)
    METHODS[method].apply(model, total * 13 // 20, scorer, FREE, masks)
    lost, left = [], []
    for place, weight in weights.items():
        worth = weight.square().view(-1, of)
        smallest = worth.sort(1).values[:, :zeros].sum(1)  # zeros of before are worth nothing
        chosen = (masks[place].view(-1, of) != before[place]).any(1)
        whole = before[place].sum(1) > of - zeros
        lost.append(smallest[chosen])
        left.append(smallest[whole & ~chosen])
        gone = worth.masked_fill(masks[place].view(-1, of), 0.0).sum(1)
        assert torch.allclose(gone[chosen], smallest[chosen])
        assert ((~masks[place].view(-1, of)).sum(1)[chosen] == zeros).all()
    assert torch.cat(lost).max() <= torch.cat(left).min()


def test_sizes_beyond_the_pattern_and_odd_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="the least that this method can keep"):
        masked(drawn_model(SHAPES["gpt2"]), "2:4", 0.6)
    odd = drawn_model(type(SHAPES["gpt2"]).uniform(V, 18, 1, 2, 16, 12))
    with pytest.raises(
        ValueError, match=f"{Place(0, 'attn.q')} has 18 inputs; expected a multiple"
    ):
        masked(odd, "2:4", 0.5)
