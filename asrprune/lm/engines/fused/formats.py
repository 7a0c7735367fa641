"""FORMATS: number formats of the kernel's matrices, and a model that rounds as they do in torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from asrprune.lm.engines.fused.codes import PANEL, Floats, filled, quantise_matrix, round_rows
from asrprune.lm.model.layers import TokenEmbedding
from asrprune.lm.model.matrices import Matrix
from asrprune.lm.model.transformer import TransformerLM


class Stored(NamedTuple):
    """A matrix [outputs, inputs] as stored: ``values``, and with 8 bits a scale an output."""

    values: NDArray[Any]
    scales: Optional[Floats] = None


@dataclass(frozen=True)
class Format:
    """``store`` makes what is stored of W [outputs, inputs], ``restore`` W of that; ``store``
    raises ValueError for weights that the format cannot hold. ``round_rows`` rounds what a matrix
    is multiplied with, [..., size]. ``beside``: inputs that stand together in the packed matrix.
    """

    store: Callable[[Floats], Stored]
    restore: Callable[[Stored], Tensor]
    round_rows: Callable[[Tensor], Tensor]
    beside: int

    def round_matrix(self, weight: Tensor) -> Tensor:
        """W [outputs, inputs] as stored, in float32."""
        return self.restore(self.store(weight.detach().cpu().float().numpy()))


def _store_int8(weight: Floats) -> Stored:
    return Stored(*quantise_matrix(weight))


def _restore_int8(stored: Stored) -> Tensor:
    assert stored.scales is not None  # _store_int8 makes them
    return torch.from_numpy(stored.values * stored.scales[:, None])


def _store_bf16(weight: Floats) -> Stored:
    half = torch.from_numpy(np.ascontiguousarray(weight)).bfloat16()
    return Stored(half.view(torch.int16).numpy())


def _restore_bf16(stored: Stored) -> Tensor:
    return torch.from_numpy(stored.values).view(torch.bfloat16).float()


FORMATS: Mapping[str, Format] = {
    "int8": Format(_store_int8, _restore_int8, round_rows, beside=4),
    "bf16": Format(_store_bf16, _restore_bf16, lambda x: x.bfloat16().float(), beside=2),
}
"""Name, as in the kernel's functions -> format."""


def pack(values: NDArray[Any], beside: int, step: int) -> NDArray[Any]:
    """[outputs, inputs] as the kernel reads it, flat: see Matrix in matrices.h.

    Inputs are filled up to a multiple of ``step``, outputs to panels.
    """
    whole = filled(filled(values, 0, PANEL), 1, step)
    outputs, inputs = whole.shape
    panels = whole.reshape(outputs // PANEL, PANEL, inputs // beside, beside).transpose(0, 2, 1, 3)
    lines = np.empty(whole.nbytes + 64, np.int8)
    start = -lines.ctypes.data % 64  # a vector never lies across two lines of the cache
    aligned: NDArray[Any] = lines[start : start + whole.nbytes].view(values.dtype)
    aligned[:] = panels.reshape(-1)
    return aligned


def rounded_model(model: TransformerLM, form: Format) -> TransformerLM:
    """A copy in float32 that multiplies what the kernel multiplies, rounded and back.

    It differs from the kernel where another rounding of a sum sends an activation to the next
    value of the format. Raises ValueError for a weight that the format cannot hold.
    """
    model = copy.deepcopy(model).float().cpu().eval()
    for place, linear in list(model.linears()):
        model.put(place, _RoundedLinear(linear, form))  # type: ignore[arg-type]
    model.embedding = _RoundedEmbedding(model.embedding, form)  # type: ignore[assignment]
    return model


class _RoundedLinear(nn.Module):
    def __init__(self, linear: Matrix, form: Format) -> None:
        super().__init__()
        self._round_rows = form.round_rows
        self.out_features = linear.out_features
        self._matrices = [form.round_matrix(part) for part in linear.parts.values()]
        self._order = linear.arrangement
        self._bias = torch.zeros(linear.out_features)
        if linear.bias is not None:
            self._bias = linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        inner = x
        for matrix in self._matrices:
            if inner.shape[-1] == 0:
                return self._bias.expand(*x.shape[:-1], -1)
            before, inner = inner, functional.linear(self._round_rows(inner), matrix)
        if self._order is not None:
            inner = torch.cat([before, inner], dim=-1)[..., self._order]
        return inner + self._bias


class _RoundedEmbedding(nn.Module):
    def __init__(self, embedding: TokenEmbedding, form: Format) -> None:
        super().__init__()
        self._round_rows = form.round_rows
        self.weight = form.round_matrix(embedding.weight)
        self.output_weight = (
            self.weight if embedding.tied else form.round_matrix(embedding.output_weight)
        )
        self.projection = embedding.projection
        if self.projection is not None:
            self._spread = form.round_matrix(self.projection.T)
            self._narrow = form.round_matrix(self.projection)

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = functional.embedding(tokens, self.weight)
        if self.projection is None:
            return vectors
        return functional.linear(self._round_rows(vectors), self._spread)

    def features(self, hidden: Tensor) -> Tensor:
        if self.projection is not None:
            hidden = functional.linear(self._round_rows(hidden), self._narrow)
        return self._round_rows(hidden)
