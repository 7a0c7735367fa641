"""The Transformer's forward pass: rows, stored keys and values, shapes."""

from __future__ import annotations

from typing import Optional

import pytest
import torch

from asrprune.lm.model.shapes import BlockShape, LinearShape, ModelShape
from asrprune.lm.model.transformer import TransformerLM, count_nonzero, count_parameters

SHAPE = ModelShape.uniform(29, 16, 3, 4, ffn=24, max_positions=10)


def random_model(shape: ModelShape = SHAPE) -> TransformerLM:
    torch.manual_seed(0)
    lm = TransformerLM(shape).eval()
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.normal_(std=0.3)
    return lm


def test_rows_may_attend_to_places_of_other_rows() -> None:
    """A sentence in rows of two, with the keys of all rows before, is the sentence in one row."""
    model = random_model()
    tokens = torch.tensor([[1, 4, 7, 5, 3, 9]])
    whole, _ = model(tokens)
    keys = torch.tensor([[-1, -1, -1, -1, 0, 1], [-1, -1, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]])
    places = torch.arange(6).view(3, 2)
    mask = (keys[:, None] >= 0) & (keys[:, None] <= places[:, :, None])  # [3, 2, 6]
    rows, _ = model(tokens.view(3, 2), places, mask[:, None], keys=keys)
    torch.testing.assert_close(rows.view(1, 6, -1), whole)
    with pytest.raises(ValueError, match="keys of other rows need a mask"):
        model(tokens.view(3, 2), places, keys=keys)
    with pytest.raises(ValueError, match="no stored keys"):
        model(tokens.view(3, 2), places, mask[:, None], past=[], keys=keys)


def test_stored_keys_and_values_give_the_same_as_a_whole_pass() -> None:
    lm = random_model()
    tokens = torch.randint(0, 29, (2, 7), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole, _ = lm(tokens)
        _, past = lm(tokens[:, :4])
        mask = torch.ones(3, 7, dtype=torch.bool).tril(4)
        rest, _ = lm(tokens[:, 4:], torch.arange(4, 7).expand(2, 3), mask, past)
    assert torch.allclose(rest, whole[:, 4:], atol=1e-5)


def test_later_tokens_do_not_reach_back() -> None:
    lm = random_model()
    tokens = torch.randint(0, 29, (1, 8), generator=torch.Generator().manual_seed(1))
    changed = tokens.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 29
    with torch.no_grad():
        before, after = lm(tokens)[0], lm(changed)[0]
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_too_many_positions_and_forgotten_mask() -> None:
    lm = random_model()
    with pytest.raises(ValueError, match="11 tokens; the model has 10 positions"):
        lm(torch.zeros(1, 11, dtype=torch.int64))
    _, past = lm(torch.zeros(1, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="explicit mask"):
        lm(torch.zeros(1, 2, dtype=torch.int64), past=past)


@pytest.mark.parametrize(
    "blocks",
    [
        (),
        (BlockShape(heads=0, ffn=0),),
        (BlockShape(heads=1, ffn=3, linears={"ffn.up": LinearShape("low_rank", 0)}),),
        (BlockShape(2, 8, {"attn.q": LinearShape("low_rank", 2)}), BlockShape(heads=1, ffn=0)),
    ],
)
@pytest.mark.parametrize("embedding_rank", [None, 3])
def test_shapes_that_surgery_leaves(
    blocks: tuple[BlockShape, ...], embedding_rank: Optional[int]
) -> None:
    shape = ModelShape(7, 8, 4, 5, blocks, embedding_rank=embedding_rank)
    lm = random_model(shape)
    assert lm.shape == shape
    assert ModelShape.from_dict(lm.shape.to_dict()) == shape
    assert lm.logits(lm(torch.tensor([[1, 2, 3]]))[0]).shape == (1, 3, 7)


def test_parameters_count_the_tied_embedding_once() -> None:
    lm = random_model()
    block = 4 * (16 * 16 + 16) + (16 * 24 + 24) + (24 * 16 + 16) + 4 * 16
    assert count_parameters(lm) == 29 * 16 + 10 * 16 + 3 * block + 2 * 16
    with torch.no_grad():
        lm.positions.zero_()
    assert count_nonzero(lm) == count_parameters(lm) - 160


def test_impossible_shapes() -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        ModelShape.uniform(9, 10, 1, 3)
    with pytest.raises(ValueError, match="dropout"):
        ModelShape.uniform(9, dropout=1.0)
    with pytest.raises(ValueError, match="vocab_size"):
        ModelShape.uniform(0)
    with pytest.raises(ValueError, match="matrix 'x'"):
        TransformerLM(ModelShape(9, 4, 4, 8, (BlockShape(1, 1, {"x": LinearShape()}),)))
    with pytest.raises(ValueError, match="unknown architecture 'gpt3'; did you mean 'gpt2'"):
        TransformerLM(ModelShape.uniform(9, 8, 1, 2, architecture="gpt3"))
    with pytest.raises(ValueError, match="unknown key 'rope'"):
        TransformerLM(ModelShape.uniform(9, 8, 1, 2, architecture="llama", details={"rope": 1}))
    with pytest.raises(ValueError, match=r"groups \[2, 1\] of 4 heads"):
        BlockShape(4, 1, groups=(2, 1))
    with pytest.raises(ValueError, match="low_rank matrix with rank None"):
        LinearShape("low_rank")
