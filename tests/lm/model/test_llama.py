"""Llama's parts by hand: rotary positions, shared keys and values, the gated FFN."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from asrprune.lm.model.attention import Attention
from asrprune.lm.model.llama import LlamaDetails, SwiGLU, rotation
from asrprune.lm.model.shapes import BlockShape

D, K, T = 12, 4, 5
DETAILS = LlamaDetails(rope_theta=100.0)


def attention(groups: tuple[int, ...], seed: int = 0) -> Attention:
    torch.manual_seed(seed)
    made = Attention(D, K, BlockShape(sum(groups), 8, groups=groups), 0.0, (True, False))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.5)
    return made.eval()


def turned(vector: Tensor, position: int) -> Tensor:
    """Each pair (i, i + K/2) as a complex number times exp(j position / theta^(2i/K))."""
    half = len(vector) // 2
    angles = torch.tensor([position / 100.0 ** (2 * i / len(vector)) for i in range(half)])
    pairs = torch.complex(vector[:half], vector[half:]) * torch.polar(torch.ones(half), angles)
    return torch.cat([pairs.real, pairs.imag])


@pytest.mark.parametrize("groups", [(1, 1), (2, 2), (3, 1), (1, 2, 3)])
def test_attention_by_hand(groups: tuple[int, ...]) -> None:
    """Head by head and place by place; group g of the query heads reads key and value head g."""
    layer, x = attention(groups), torch.randn(1, T, D, generator=torch.Generator().manual_seed(1))
    positions = torch.tensor([[0, 1, 2, 5, 9]])
    found, (keys, _) = layer(x, None, None, None, rotation(positions, K, DETAILS))
    assert keys.shape == (1, len(groups), T, K)
    owners = [group for group, size in enumerate(groups) for _ in range(size)]
    q, k, v = (linear(x)[0].view(T, -1, K) for linear in (layer.q, layer.k, layer.v))
    where = positions[0].tolist()
    context = torch.zeros(T, len(owners), K)
    for head, owner in enumerate(owners):
        for place in range(T):
            query = turned(q[place, head], where[place])
            seen = [turned(k[past, owner], where[past]) for past in range(place + 1)]
            weights = torch.stack(seen).mv(query).div(math.sqrt(K)).softmax(0)
            context[place, head] = weights @ v[: place + 1, owner]
    torch.testing.assert_close(found[0], layer.o(context.flatten(1)), rtol=1e-4, atol=1e-5)


def test_only_the_distance_of_positions_counts() -> None:
    layer, x = attention((2, 1)), torch.randn(1, T, D, generator=torch.Generator().manual_seed(2))
    here, later = torch.arange(T)[None], torch.arange(T)[None] + 7
    one, _ = layer(x, None, None, None, rotation(here, K, DETAILS))
    other, _ = layer(x, None, None, None, rotation(later, K, DETAILS))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    spread, _ = layer(x, None, None, None, rotation(2 * here, K, DETAILS))
    assert (one - spread).abs().max() > 0.01


def test_the_gate_is_what_goes_through_silu() -> None:
    torch.manual_seed(0)
    ffn = SwiGLU(D, BlockShape(1, 6))
    with torch.no_grad():
        ffn.gate.weight.fill_(-100.0)  # silu of it is 0
        ffn.up.weight.normal_()
    x = torch.ones(1, D)
    assert ffn(x).abs().max() < 1e-6
    with torch.no_grad():
        ffn.gate.weight.fill_(1.0 / D)
    expected = (torch.ones(6) * torch.sigmoid(torch.ones(6)) * ffn.up(x)) @ ffn.down.weight.T
    torch.testing.assert_close(ffn(x), expected)
