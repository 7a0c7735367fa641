"""A model in the memory layout of kernel.cpp, and the kernel itself."""

from __future__ import annotations

import ctypes
import functools
import logging
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asrprune.lm.engines.fused.codes import LARGEST, PANEL, Floats, filled
from asrprune.lm.engines.fused.formats import FORMATS, Stored, pack
from asrprune.lm.engines.native import load_library
from asrprune.lm.model.anatomy import Block
from asrprune.lm.model.architecture import architecture_of, details_of
from asrprune.lm.model.layers import TokenEmbedding
from asrprune.lm.model.matrices import Matrix as StoredMatrix
from asrprune.lm.model.transformer import TransformerLM

KERNEL = Path(__file__).with_name("kernel.cpp")
WITHOUT = "torch computes instead, no faster than without it"
INSTRUCTIONS = ("no own instructions", "AVX2", "AVX-512", "AVX-512 VNNI", "AVX-512 BF16", "AMX")
"""What multiplies, by the numbers in kernel.cpp."""

EXTREMES = ((127, 127, 2, 2), (65, 64, 65, 64), (-127, -127, -2, -2), (-64, -65, -64, -65))
"""Weights that meet, as large as they get: their sum is 258 or -258."""

log = logging.getLogger(__name__)


class Matrix(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("weights", "scales", "sums", "bias")]
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
        *((name, LinearStruct) for name in ("gate", "up", "down")),
        ("owners", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("heads", "kv_heads")),
    ]


class ModelStruct(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("positions", "cos", "sin")),
        ("blocks", ctypes.POINTER(BlockStruct)),
        *((name, ctypes.c_int64) for name in ("width", "head_width", "block_count", "gated")),
        ("norm", NormStruct),
        *((name, Matrix) for name in ("spread", "narrow", "embedding", "output")),
        ("epsilon", ctypes.c_float),
    ]


class Memory:
    """Arrays that structures of the kernel point to; they live as long as this does.

    Matrices are packed as ``kernel`` reads those of its ``form``, one of FORMATS.
    """

    def __init__(self, kernel: Kernel, form: str) -> None:
        self._kept: list[NDArray[Any]] = []
        self._format = FORMATS[form]
        self._step = kernel.step(form)

    def matrix(self, stored: Stored, bias: Optional[Floats] = None) -> Matrix:
        """W [outputs, inputs] in the kernel's layout."""
        values, scales = stored
        outputs, inputs = values.shape
        made = Matrix(inputs=inputs, outputs=outputs)
        made.weights = self.keep(pack(values, self._format.beside, self._step))
        if scales is not None:
            made.scales = self.floats(filled(scales, 0, PANEL))
            made.sums = self.keep(filled(values.sum(axis=1, dtype=np.int32), 0, PANEL))
        if bias is not None:
            made.bias = self.floats(filled(bias, 0, PANEL))
        return made

    def stored(self, weight: Floats, bias: Optional[Floats] = None) -> Matrix:
        """W [outputs, inputs] in the number format and in the kernel's layout."""
        return self.matrix(self._format.store(weight), bias)

    def floats(self, values: Floats) -> int:
        """The address of a copy: the model may change, and the packed matrices do not."""
        return self.keep(np.array(values, np.float32, order="C"))

    def keep(self, values: NDArray[Any]) -> int:
        """The address of ``values``."""
        self._kept.append(values)
        return int(values.ctypes.data)


class PackedModel:
    """A model in the layout of a kernel and one of FORMATS; owns all memory that it points to.

    ``kept_widths`` [blocks]: floats of the keys, or of the values, of one node. Raises ValueError
    for weights that the format cannot hold.
    """

    def __init__(self, kernel: Kernel, form: str, model: TransformerLM) -> None:
        self._memory = Memory(kernel, form)
        blocks = [self._block(block) for block in model.layers()]
        self._blocks = (BlockStruct * len(blocks))(*blocks)
        kept = (block.kv_heads * model.shape.head_dim for block in model.shape.blocks)
        self.kept_widths = [-(-size // PANEL) * PANEL for size in kept]
        norm = model.norm
        self.struct = ModelStruct(
            blocks=self._blocks,
            width=model.width,
            head_width=model.shape.head_dim,
            block_count=len(blocks),
            gated=model.anatomy.activation == "silu-gated",
            norm=self._norm(norm),
            epsilon=float(norm.eps),  # type: ignore[arg-type]
        )
        self._positions(model)
        self._embedding(model.embedding)

    def _positions(self, model: TransformerLM) -> None:
        if model.positions is not None:
            self.struct.positions = self._memory.floats(_numpy(model.positions))
            return
        rotation = architecture_of(model.shape).rotation
        assert rotation is not None  # the anatomy says so
        every = torch.arange(model.shape.max_positions)[None]
        cos, sin = rotation(every, model.shape.head_dim, details_of(model.shape))
        self.struct.cos = self._memory.floats(_numpy(cos[0]))
        self.struct.sin = self._memory.floats(_numpy(sin[0]))

    def _embedding(self, embedding: TokenEmbedding) -> None:
        self.struct.output = self._memory.stored(_numpy(embedding.output_weight))
        if not embedding.tied:
            self.struct.embedding = self._memory.stored(_numpy(embedding.weight))
        if embedding.projection is not None:
            self.struct.spread = self._memory.stored(_numpy(embedding.projection).T)
            self.struct.narrow = self._memory.stored(_numpy(embedding.projection))

    def _block(self, block: Block) -> BlockStruct:
        norm_attention, norm_ffn = (block.get_submodule(name) for name in block.anatomy.readers)
        anatomy, attn = block.anatomy, block.attn
        ffn = ("gate", "up", "down")[-len(anatomy.ffn.matrices) :]
        names = ("query", "key", "value", "out", *ffn)
        linears = {
            name: self._linear(block.linear(matrix))
            for name, matrix in zip(names, anatomy.matrices)
        }
        owners = np.repeat(np.arange(attn.kv_heads), attn.groups or 1).astype(np.int64)
        return BlockStruct(
            norm_attention=self._norm(norm_attention),
            norm_ffn=self._norm(norm_ffn),
            owners=self._memory.keep(owners),
            heads=attn.heads,
            kv_heads=attn.kv_heads,
            **linears,
        )

    def _linear(self, linear: StoredMatrix) -> LinearStruct:
        made = LinearStruct(outputs=linear.out_features)
        bias = None if linear.bias is None else _numpy(linear.bias)
        if bias is not None:
            made.bias = self._memory.floats(bias)
        first, *rest = (_numpy(part) for part in linear.parts.values())
        order = linear.arrangement
        if not rest:
            made.first = self._memory.stored(first, bias)
            return made
        made.kind = 1 if order is None else 2
        made.first = self._memory.stored(first)
        made.second = self._memory.stored(rest[0], bias if order is None else None)
        if order is not None:
            made.order = self._memory.keep(order.cpu().numpy().astype(np.int64))
        return made

    def _norm(self, norm: nn.Module) -> NormStruct:
        values = (_numpy(value) for _, value in norm.named_parameters())
        return NormStruct(*map(self._memory.floats, values))


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


_SIGNATURES: dict[str, tuple[list[Any], Any]] = {
    "log_probs": (_ARGUMENTS, ctypes.c_int),
    "more": (_MORE_ARGUMENTS, ctypes.c_int),
    "product": ([ctypes.POINTER(Matrix), _POINTER, _SIZE, _POINTER], None),
    "step": ([], _SIZE),
    "instructions": ([], _SIZE),
}


class Kernel:
    """The library, its functions declared."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        for form in FORMATS:
            for name, (arguments, result) in _SIGNATURES.items():
                function = self.function(form, name)
                function.argtypes, function.restype = arguments, result

    def function(self, form: str, name: str) -> Any:
        """``asrprune_FORM_NAME`` of kernel.cpp."""
        return getattr(self._library, f"asrprune_{form}_{name}")

    def step(self, form: str) -> int:
        """To which multiple the inputs of the format's matrices are filled up."""
        return int(self.function(form, "step")())

    def note(self, form: str) -> str:
        """With what the format's products are made."""
        return INSTRUCTIONS[self.function(form, "instructions")()]

    def product(self, form: str, x: Floats, stored: Stored) -> Floats:
        """x [rows, inputs] times a stored matrix, as a pass multiplies them: [rows, outputs];
        rows <= 96."""
        memory = Memory(self, form)
        matrix, outputs = memory.matrix(stored), len(stored.values)
        out = np.zeros((len(x), outputs), np.float32)
        address = memory.floats(x)
        self.function(form, "product")(ctypes.byref(matrix), address, len(x), out.ctypes.data)
        return out


@functools.lru_cache(maxsize=1)
def load_kernel() -> Optional[Kernel]:
    """The kernel; None, with one line in the log, where there is none."""
    library = load_library(KERNEL, WITHOUT)
    if library is None:
        return None
    kernel = Kernel(library)
    if not products_are_exact(kernel):
        log.warning("the fused kernel does not multiply exactly here, so %s", WITHOUT)
        return None
    return kernel


def products_are_exact(kernel: Kernel) -> bool:
    """Tries the largest products there are in 8 bits, and whole numbers in bfloat16, of one row and
    of several: no sum of them is rounded."""
    drawn = np.random.default_rng(0)
    fours = np.array(EXTREMES, np.int8)[drawn.integers(len(EXTREMES), size=(24, 32))]
    codes = fours.reshape(24, 16, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(24, 128)
    x = drawn.choice(np.array([0.0, LARGEST], np.float32), (37, 128), p=[0.1, 0.9])
    x[:, 0] = LARGEST
    expected = x @ codes.T.astype(np.float32)  # whole numbers below 2^24
    matrices = {
        "int8": Stored(codes, np.ones(len(codes), np.float32)),
        "bf16": FORMATS["bf16"].store(codes.astype(np.float32)),
    }
    return all(
        bool((kernel.product(form, rows, matrix) == expected[: len(rows)]).all())
        for form, matrix in matrices.items()
        for rows in (x, x[:1], x[:2], x[:17])
    )
