"""Page rank against the chain worked out by hand."""

from __future__ import annotations

import copy

import pytest
import torch

from asrprune.lm.model.matrices import LowRankLinear
from asrprune.lm.model.shapes import Place
from asrprune.lm.training.batches import IGNORED
from asrprune.lm.training.distributed import ProcessGroup
from asrprune.prune.criteria.criterion import Sample
from asrprune.prune.criteria.page_rank import page_rank
from asrprune.prune.groups import Group
from tests.prune.small_models import SHAPES
from tests.prune.tiny_lm import batches, tiny
from tests.small_lm import drawn_model

SAMPLE = Sample(lambda model: batches(), 10**9, ProcessGroup())


def sizes(model: torch.nn.Module, module: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Root mean squares of the inputs and, without bias, of the outputs of a linear."""
    inputs: list[torch.Tensor] = []
    masks: list[torch.Tensor] = []
    handle = module.register_forward_hook(lambda _, x, y: inputs.append(x[0][masks[-1]].detach()))
    with torch.no_grad():
        for batch in batches():
            masks.append(batch.targets != IGNORED)
            model(batch.tokens)
    handle.remove()
    x = torch.cat(inputs)
    y = x @ module.weight.detach().T
    return x.square().mean(0).sqrt(), y.square().mean(0).sqrt()


def normal(values: torch.Tensor) -> torch.Tensor:
    return values / values.sum()


def test_the_score_of_a_neuron_is_its_rank_along_the_chain_of_all_ffns() -> None:
    model = tiny()
    rank, expected = None, []
    for block in model.blocks:
        up, down = block.linear("ffn.up"), block.linear("ffn.down")
        rank = normal(sizes(model, up)[0]) if rank is None else rank
        features, outputs = sizes(model, down)
        hidden = normal(up.weight.detach().abs() @ rank * features)
        rank = normal(down.weight.detach().abs() @ hidden * outputs)
        expected.append(hidden)
    groups = [
        Group(Place(number, "ffn.down"), block.linear("ffn.down"), "weight", 16, 1, cost=33)
        for number, block in enumerate(model.blocks)
    ]
    for scores, ranks in zip(page_rank(model, groups, SAMPLE), expected, strict=True):
        torch.testing.assert_close(scores, 33 * 64 * ranks[None], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SHAPES)
def test_tiles_share_out_the_rank_of_their_columns(name: str) -> None:
    """One on average per parameter, whatever the tiles; a column of zeros passes nothing."""
    model = drawn_model(SHAPES[name])
    if name != "gpt2":
        assert model.layers()[0].attn.groups is not None or name == "qwen2"
    for matrix in model.anatomy.matrices:
        linear = model.layers()[1].linear(matrix)
        with torch.no_grad():
            linear.weight[:, 1] = 0
        height, width = linear.weight.shape
        whole = Group(Place(1, matrix), linear, "weight", height, 1, cost=5)
        single = Group(Place(1, matrix), linear, "weight", 1, 1, cost=1)
        columns, weights = page_rank(model, [whole, single], SAMPLE)
        assert float(columns.sum()) == pytest.approx(5 * width, rel=1e-4)
        assert float(weights.sum()) == pytest.approx(height * width, rel=1e-4)
        assert columns[0, 1] == 0
        assert not weights[:, 1].any()
        share = weights[:, 0] / weights[:, 0].sum()
        torch.testing.assert_close(share, normal(linear.weight.detach()[:, 0].abs()))
        torch.testing.assert_close(5 * weights.sum(0) / height, columns[0], rtol=1e-3, atol=1e-4)


def test_components_that_make_nothing_have_no_rank() -> None:
    model = copy.deepcopy(tiny())
    dense = model.blocks[0].linear("ffn.up")
    u, s, v = torch.linalg.svd(dense.weight.detach(), full_matrices=False)
    factored = LowRankLinear.from_factors(u * s, v, dense.bias)
    with torch.no_grad():
        factored.B[3] = 0
    model.put(Place(0, "ffn.up"), factored)
    group = Group(Place(0, "ffn.up"), factored, "A", 64, 1, cost=80)
    (scores,) = page_rank(model, [group], SAMPLE)
    assert scores[0, 3] == 0
    assert (scores[0, :3] > 0).all()
    assert float(scores.sum()) == pytest.approx(80 * 16, rel=1e-4)


def test_a_model_without_any_ffn_is_ranked_by_its_attention_alone() -> None:
    model = tiny()
    for number in range(2):
        for name, shape in (("ffn.up", (0, 16)), ("ffn.down", (16, 0))):
            linear = model.blocks[number].linear(name)
            bias = linear.bias[: shape[0]]
            model.put(Place(number, name), type(linear)(torch.zeros(shape), bias))
    linear = model.blocks[1].linear("attn.o")
    (scores,) = page_rank(model, [Group(Place(1, "attn.o"), linear, "weight", 16, 8, 9)], SAMPLE)
    assert (scores > 0).all()
    assert float(scores.sum()) == pytest.approx(18, rel=1e-4)
