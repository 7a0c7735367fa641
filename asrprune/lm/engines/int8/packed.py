"""A model in the memory layout of kernel.cpp, and the kernel itself."""

from __future__ import annotations

import ctypes
import functools
import logging
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from asrprune.lm.engines.int8.codes import (
    LARGEST,
    PANEL,
    Floats,
    filled,
    pack_codes,
    quantise_matrix,
)
from asrprune.lm.engines.native import load_library
from asrprune.lm.model.anatomy import Block
from asrprune.lm.model.matrices import Matrix as StoredMatrix
from asrprune.lm.model.transformer import TransformerLM

KERNEL = Path(__file__).with_name("kernel.cpp")
WITHOUT = "torch computes in float32 with the same quantised values"
EXTREMES = ((127, 127, 2, 2), (65, 64, 65, 64), (-127, -127, -2, -2), (-64, -65, -64, -65))
"""Weights that meet, as large as they get: their sum is 258 or -258."""

log = logging.getLogger(__name__)


class Matrix(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("codes", "scales", "sums", "bias")]
    _fields_ += [(name, ctypes.c_int64) for name in ("inputs", "outputs")]  # type: ignore[misc]


class LinearStruct(ctypes.Structure):
    _fields_ = [
        ("first", Matrix),
        ("second", Matrix),
        ("order", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("kind", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
    ]


class NormStruct(ctypes.Structure):
    _fields_ = [("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p)]


class BlockStruct(ctypes.Structure):
    _fields_ = [
        ("norm_attention", NormStruct),
        *((name, LinearStruct) for name in ("query", "key", "value", "out")),
        ("norm_ffn", NormStruct),
        *((name, LinearStruct) for name in ("up", "down")),
        ("heads", ctypes.c_int64),
    ]


class ModelStruct(ctypes.Structure):
    _fields_ = [
        ("positions", ctypes.c_void_p),
        ("blocks", ctypes.POINTER(BlockStruct)),
        *((name, ctypes.c_int64) for name in ("width", "head_width", "block_count")),
        ("norm", NormStruct),
        *((name, Matrix) for name in ("spread", "narrow", "output")),
        ("epsilon", ctypes.c_float),
    ]


class Memory:
    """Arrays that structures of the kernel point to; they live as long as this does."""

    def __init__(self) -> None:
        self._kept: list[NDArray[Any]] = []

    def matrix(
        self, codes: NDArray[np.int8], scales: Floats, bias: Optional[Floats] = None
    ) -> Matrix:
        """W [outputs, inputs] of ``quantise_matrix`` in the kernel's layout."""
        outputs, inputs = codes.shape
        return Matrix(
            codes=self.keep(pack_codes(codes)),
            scales=self.floats(filled(scales, 0, PANEL)),
            sums=self.keep(filled(codes.sum(axis=1, dtype=np.int32), 0, PANEL)),
            bias=None if bias is None else self.floats(filled(bias, 0, PANEL)),
            inputs=inputs,
            outputs=outputs,
        )

    def floats(self, values: Floats) -> int:
        return self.keep(np.ascontiguousarray(values, np.float32))

    def keep(self, values: NDArray[Any]) -> int:
        """The address of ``values``."""
        self._kept.append(values)
        return int(values.ctypes.data)


class PackedModel:
    """A model in the kernel's layout; owns all memory that it points to.

    ``kept_widths`` [blocks]: floats of the keys, or of the values, of one node.
    """

    def __init__(self, model: TransformerLM) -> None:
        self._memory = Memory()
        embedding, projection = model.embedding, model.embedding.projection
        blocks = [self._block(block) for block in model.layers()]
        self._blocks = (BlockStruct * len(blocks))(*blocks)
        width = model.width
        assert model.positions is not None  # engine int8 computes gpt2
        heads = (block.heads * model.shape.head_dim for block in model.shape.blocks)
        self.kept_widths = [-(-size // PANEL) * PANEL for size in heads]
        self.struct = ModelStruct(
            positions=self._memory.floats(_numpy(model.positions)),
            blocks=self._blocks,
            width=width,
            head_width=model.shape.head_dim,
            block_count=len(blocks),
            norm=self._norm(model.norm),
            spread=Matrix() if projection is None else self._matrix(_numpy(projection).T),
            narrow=Matrix() if projection is None else self._matrix(_numpy(projection)),
            output=self._matrix(_numpy(embedding.weight)),
            epsilon=float(model.norm.eps),  # type: ignore[arg-type]
        )

    def _block(self, block: Block) -> BlockStruct:
        norm_attention, norm_ffn = (block.get_submodule(name) for name in block.anatomy.readers)
        names = ("query", "key", "value", "out", "up", "down")
        linears = (self._linear(block.linear(name)) for name in block.anatomy.matrices)
        return BlockStruct(
            norm_attention=self._norm(norm_attention),
            norm_ffn=self._norm(norm_ffn),
            heads=block.attn.heads,
            **dict(zip(names, linears)),
        )

    def _linear(self, linear: StoredMatrix) -> LinearStruct:
        assert linear.bias is not None  # engine int8 computes gpt2
        bias = _numpy(linear.bias)
        made = LinearStruct(bias=self._memory.floats(bias), outputs=linear.out_features)
        first, *rest = (_numpy(part) for part in linear.parts.values())
        order = linear.arrangement
        if not rest:
            made.first = self._matrix(first, bias)
            return made
        made.kind = 1 if order is None else 2
        made.first = self._matrix(first)
        made.second = self._matrix(rest[0], bias if order is None else None)
        if order is not None:
            made.order = self._memory.keep(order.cpu().numpy().astype(np.int64))
        return made

    def _norm(self, norm: nn.Module) -> NormStruct:
        weight, bias = (_numpy(value) for _, value in norm.named_parameters())
        return NormStruct(self._memory.floats(weight), self._memory.floats(bias))

    def _matrix(self, weight: Floats, bias: Optional[Floats] = None) -> Matrix:
        return self._memory.matrix(*quantise_matrix(weight), bias)


def _numpy(value: Tensor) -> Floats:
    array: Floats = value.detach().cpu().float().numpy()
    return array


_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_int64
_MORE_ARGUMENTS: list[Any] = [
    ctypes.POINTER(ModelStruct),
    *(_POINTER, _POINTER, _POINTER, _SIZE),  # nodes, tokens, positions; how many
    *(_POINTER, ctypes.POINTER(_POINTER), ctypes.POINTER(_POINTER)),  # parents, keys, values
    *(_POINTER, _POINTER, _SIZE),  # sources, targets
    _POINTER,  # the log-probabilities
]
_ARGUMENTS: list[Any] = [
    ctypes.POINTER(ModelStruct),
    *(_POINTER, _POINTER, _POINTER, _SIZE),  # tokens, positions, last; how many
    *(_POINTER, _SIZE),  # nodes
    *(_POINTER, _POINTER, _SIZE),  # sources, targets
    _POINTER,  # the log-probabilities
]


@functools.lru_cache(maxsize=1)
def load_kernel() -> Optional[ctypes.CDLL]:
    """The library, its functions declared; None, with one line in the log, where there is none."""
    library = load_library(KERNEL, WITHOUT)
    if library is None:
        return None
    library.asrprune_int8_log_probs.argtypes = _ARGUMENTS
    library.asrprune_int8_log_probs.restype = ctypes.c_int
    library.asrprune_int8_more.argtypes = _MORE_ARGUMENTS
    library.asrprune_int8_more.restype = ctypes.c_int
    matrix = ctypes.POINTER(Matrix)
    library.asrprune_int8_product.argtypes = [matrix, _POINTER, _SIZE, _POINTER]
    library.asrprune_int8_product.restype = None
    if not products_are_exact(library):
        log.warning("the int8 kernel does not multiply exactly here, so %s", WITHOUT)
        return None
    return library


def products_are_exact(library: ctypes.CDLL) -> bool:
    """Tries the largest products there are, of one row and of several."""
    drawn = np.random.default_rng(0)
    fours = np.array(EXTREMES, np.int8)[drawn.integers(len(EXTREMES), size=(24, 32))]
    codes = fours.reshape(24, 16, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(24, 128)
    x = drawn.choice(np.array([0.0, LARGEST], np.float32), (5, 128), p=[0.1, 0.9])
    x[:, 0] = LARGEST
    scales = np.ones(len(codes), np.float32)
    expected = x @ codes.T.astype(np.float32)  # whole numbers below 2^24
    return all(
        bool((kernel_product(library, rows, codes, scales) == expected[: len(rows)]).all())
        for rows in (x, x[:1], x[:2])
    )


def kernel_product(
    library: ctypes.CDLL, x: Floats, codes: NDArray[np.int8], scales: Floats
) -> Floats:
    """x [rows, inputs] times a matrix, as a pass multiplies them: [rows, outputs]; rows <= 96."""
    memory = Memory()
    matrix = memory.matrix(codes, scales)
    out = filled(np.zeros((len(x), len(codes)), np.float32), 1, PANEL)
    address = memory.floats(x)
    library.asrprune_int8_product(ctypes.byref(matrix), address, len(x), out.ctypes.data)
    return out[:, : len(codes)]
