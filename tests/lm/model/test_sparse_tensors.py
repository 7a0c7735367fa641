"""Tensors of many zeros as they are stored."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
import torch

from asrprune.lm.model.sparse_tensors import CODE, MASK, VALUES, pack, unpacked

FORMS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


class Held(dict[str, torch.Tensor]):
    """What was packed, as a file of tensors gives it."""

    def read(self, name: str) -> torch.Tensor:
        return self[name]


def with_zeros(share: float, shape: tuple[int, ...] = (300, 401)) -> torch.Tensor:
    torch.manual_seed(0)
    value = torch.randn(shape)
    value[torch.rand(shape) < share] = 0.0
    return value


def bits(value: torch.Tensor) -> torch.Tensor:
    form = {2: torch.int16, 4: torch.int32, 8: torch.int64}[value.element_size()]
    return value.view(form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.99, 1.0])
def test_numbers_come_back_bit_for_bit(share: float, form: torch.dtype) -> None:
    value = with_zeros(share).to(form)
    value[0, 0], value[7, 3] = -0.0, math.nan
    packed = Held(pack({"w": value, "bias": torch.ones(3)}))
    assert torch.equal(packed.pop("bias"), torch.ones(3))
    (mask,) = (name for name in packed if name in ("w" + MASK, "w" + CODE))
    found = unpacked(packed, mask)
    assert found.dtype == form
    assert torch.equal(bits(found), bits(value))
    assert len(packed["w" + VALUES]) == int((bits(value) != 0).sum())


@pytest.mark.parametrize("share", [0.7, 0.8, 0.9])
def test_the_code_is_about_as_short_as_can_be(share: float) -> None:
    """Zeros that are drawn one by one: entropy is the least, and a bit a number what was stored
    before."""
    value = with_zeros(share)
    entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    length = len(pack({"w": value})["w" + CODE])
    assert entropy < 8 * length / value.numel() < 1.03 * entropy + 0.01


def test_two_of_four_have_a_short_code_too() -> None:
    """A byte is one of 36: 5.2 bits of 8."""
    value = torch.randn(400, 400)
    gone = value.view(-1, 4).abs().argsort(1)[:, :2]
    value.view(-1, 4).scatter_(1, gone, 0.0)
    assert 5.1 / 8 < len(pack({"w": value})["w" + CODE]) * 8 / value.numel() < 5.4 / 8


def test_half_of_zeros_have_a_plain_mask() -> None:
    value = with_zeros(0.5)
    packed = pack({"w": value})
    assert np.array_equal(packed["w" + MASK].numpy(), np.packbits((value != 0).flatten().numpy()))


def test_what_would_be_no_smaller_stays_as_it_is() -> None:
    for value in (with_zeros(0.05), torch.zeros(0), torch.zeros(3, 0), torch.zeros(1)):
        assert list(pack({"w": value})) == ["w"]


def deflated(mask: bytes) -> torch.Tensor:
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    return torch.tensor(list(coder.compress(mask) + coder.flush()), dtype=torch.uint8)


@pytest.mark.parametrize("change", ["cut", "long", "short", "noise", "few", "many"])
def test_a_damaged_code_is_told(change: str) -> None:
    packed = Held(pack({"w": with_zeros(0.8)}))
    mask, code = "w" + CODE, packed["w" + CODE]
    length = (300 * 401 + 7) // 8
    packed[mask] = {
        "cut": code[:-9],
        "long": deflated(b"\1" * (length + 1)),
        "short": deflated(b"\1" * (length - 1)),
        "noise": torch.full((99,), 255, dtype=torch.uint8),
        "few": deflated(bytes(length)),
        "many": deflated(b"\xff" * length),
    }[change]
    with pytest.raises(ValueError, match="values of w for" if change in ("few", "many") else mask):
        unpacked(packed, mask)
