"""The Transformer LM as an ONNX graph, written from its weights: no tracing, any pruned shape.

Inputs are those of a TrieBatch: ``tokens``, ``positions``, ``last`` [C, Q], ``keys`` [C, S],
``nodes`` [N], ``sources`` and ``targets`` [P], all int64. The output ``log_probs`` [P] float32 is
ln p(target | path to the node); the tree mask, the log-softmax and the gathering are part of the
graph. In fp32 it holds standard operators only (opset 20).

With ``ranges`` every weight matrix is stored in 8 bits: symmetric with one scale a column, its
input unsigned with one range for the whole tensor that was measured before (static). The quantised
values of a matrix are signed and small enough that no two of them overflow 16 bits (saturation.py).
A row's result then depends on that row alone. The products of attention, layer norms, softmax and
sums stay in fp32. The matrices are multiplied by ONNX Runtime's own MatMulIntegerToFloat: from the
standard form (QDQ around a MatMul, then a bias) it makes a Gemm in fp32 before it looks for
integers, which was measured to be no faster than fp32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import torch
from numpy.typing import NDArray

from asrprune.lm.engines.onnx_runtime.writer import Floats, GraphWriter, to_numpy
from asrprune.lm.model.attention import Attention
from asrprune.lm.model.transformer import TransformerLM

if TYPE_CHECKING:
    import onnx

INPUTS = {
    "tokens": ("C", "Q"),
    "positions": ("C", "Q"),
    "last": ("C", "Q"),
    "keys": ("C", "S"),
    "nodes": ("N",),
    "sources": ("P",),
    "targets": ("P",),
}
"""Name of each input -> names of its axes."""

OUTPUT = "log_probs"
TAP = "tap:"
OPSET, IR_VERSION = 20, 10
ORT_DOMAIN = "com.microsoft"

VOCAB_CHUNK = 8192
"""Columns of the output layer at a time: memory is nodes x chunk, whatever the vocabulary."""

_MASKED = -1e9  # far below any attention logit, and finite


@dataclass(frozen=True)
class Range:
    """The smallest and largest value of a tensor that 8 bits stand for; 0 is made exact."""

    low: float
    high: float

    @property
    def scale(self) -> float:
        """Distance of two neighbouring values."""
        return max(max(self.high, 0.0) - min(self.low, 0.0), 1e-8) / 255

    @property
    def zero_point(self) -> int:
        """The code of 0."""
        return min(max(round(-min(self.low, 0.0) / self.scale), 0), 255)


def build_graph(
    model: TransformerLM,
    ranges: Optional[Mapping[str, Range]] = None,
    tap: bool = False,
    vocab_chunk: int = VOCAB_CHUNK,
    signed: bool = True,
    log_softmax: bool = True,
) -> onnx.ModelProto:
    """The model as ONNX: fp32 without ``ranges``, static int8 with the range of every input.

    ``tap`` adds the inputs of the weight matrices to the outputs, each once, named TAP + its key
    in ``ranges``: the name of the first matrix that it is multiplied with. Values that are not
    ``signed`` are the same ones plus 128, and slower on every x86. ``log_softmax``: whether the
    runtime computes that at once; without it the graph has no [N, V] after the logits but the
    exponentials. Raises MissingPackage without the package onnx, KeyError for a missing range.
    """
    with torch.no_grad():
        return _Writer(ranges, vocab_chunk, signed, log_softmax).write(model, tap)


class _Writer(GraphWriter):
    """Writes the graph of a TrieBatch."""

    def __init__(
        self,
        ranges: Optional[Mapping[str, Range]],
        vocab_chunk: int,
        signed: bool,
        log_softmax: bool,
    ) -> None:
        super().__init__()
        self._ranges = ranges
        self._chunk = vocab_chunk
        self._signed = signed
        self._log_softmax = log_softmax
        self._quantised: dict[str, tuple[str, str, str]] = {}
        self._inputs: dict[str, str] = {}  # a tensor that matrices are multiplied with -> its key
        self._mask = ""

    def write(self, model: TransformerLM, tap: bool) -> onnx.ModelProto:
        helper, types = self._onnx.helper, self._onnx.TensorProto
        x = self._embed(model)  # [C*Q, D]
        self._mask = self._tree_mask()  # [C, 1, Q, S]
        if model.anatomy.positions == "rotary":
            places = self.op("Reshape", "positions", self.ints(-1))
            self.rotation = self.rotary(model, places)
        for index, block in enumerate(model.layers()):
            x = self.block(f"blocks.{index}", block, x)
        needed = self.op("Gather", x, "nodes", axis=0)  # [N, D]
        self._output_layer(model, self.norm("norm", model.norm, needed))
        outputs = [helper.make_tensor_value_info(OUTPUT, types.FLOAT, ["P"])]
        if tap:
            for x, name in self._inputs.items():
                self._nodes.append(helper.make_node("Identity", [x], [TAP + name]))
                outputs.append(helper.make_tensor_value_info(TAP + name, types.FLOAT, None))
        inputs = [
            helper.make_tensor_value_info(name, types.INT64, list(axes))
            for name, axes in INPUTS.items()
        ]
        opsets = [helper.make_opsetid("", OPSET)]
        if self._ranges is not None:
            opsets.append(helper.make_opsetid(ORT_DOMAIN, 1))
        return self.model(inputs, outputs, opsets, IR_VERSION)

    def _embed(self, model: TransformerLM) -> str:
        """Token vectors, plus position vectors where those are learned: [C*Q, D]."""
        tokens = self.op("Reshape", "tokens", self.ints(-1))
        positions = self.op("Reshape", "positions", self.ints(-1))
        table = to_numpy(model.embedding.weight)
        if self._ranges is None:
            x = self.op("Gather", self.weight("embedding", table), tokens, axis=0)
        else:
            codes, scales = _quantise_columns(table.T)
            rows = self.op("Gather", self.weight("embedding.int8", codes.T), tokens, axis=0)
            scale = self.weight("embedding.scale", scales[:, None])
            scale = self.op("Gather", scale, tokens, axis=0)
            x = self.op("Mul", self.op("Cast", rows, to=1), scale)
        if model.embedding.projection is not None:
            x = self._matmul("embedding.projection", x, to_numpy(model.embedding.projection))
        if model.positions is None:
            return x
        where = self.weight("positions.weight", to_numpy(model.positions))
        return self.op("Add", x, self.op("Gather", where, positions, axis=0))

    def _tree_mask(self) -> str:
        """0 where a query may attend to a key, else far below 0: [C, 1, Q, S]."""
        flat = self.op("Reshape", "last", self.ints(-1))
        zero, one = (self.weight(f"int_{i}", np.array(i, np.int64)) for i in (0, 1))
        size = self.op("Squeeze", self.op("Shape", flat), self.ints(0))
        query = self.op("Range", zero, size, one)
        query = self.op("Reshape", query, self.op("Shape", "last"))
        query = self.op("Unsqueeze", query, self.ints(2))  # [C, Q, 1]
        key = self.op("Unsqueeze", "keys", self.ints(1))  # [C, 1, S]
        last = self.op("Unsqueeze", self.op("Gather", flat, "keys", axis=0), self.ints(1))
        before = self.op("LessOrEqual", key, query)
        below = self.op("LessOrEqual", query, last)
        allowed = self.op("And", before, below)
        allowed = self.op("And", allowed, self.op("LessOrEqual", zero, key))
        allowed = self.op("Unsqueeze", allowed, self.ints(1))
        return self.op("Where", allowed, self.number(0.0), self.number(_MASKED))

    def _context(self, name: str, attn: Attention, query: str, key: str, value: str) -> str:
        query = self._heads(query, "tokens", attn.heads, attn)  # [C, Q, H, K]
        key, value = (
            self._heads(self.op("Gather", part, "keys", axis=0), "keys", attn.kv_heads, attn)
            for part in (key, value)
        )  # [C, S, G, K]
        key, value = (self.shared(part, attn, axis=2) for part in (key, value))  # [C, S, H, K]
        query = self.op("Mul", query, self.number(float(attn.head_dim) ** -0.5))
        query = self.op("Transpose", query, perm=[0, 2, 1, 3])  # [C, H, Q, K]
        key = self.op("Transpose", key, perm=[0, 2, 1, 3])  # [C, H, S, K]
        key = self.op("Transpose", key, perm=[0, 1, 3, 2])  # which ONNX Runtime multiplies as is
        value = self.op("Transpose", value, perm=[0, 2, 1, 3])
        logits = self.op("Add", self.op("MatMul", query, key), self._mask)  # [C, H, Q, S]
        context = self.op("MatMul", self.op("Softmax", logits, axis=-1), value)
        context = self.op("Transpose", context, perm=[0, 2, 1, 3])
        return self.op("Reshape", context, self.ints(-1, attn.heads * attn.head_dim))

    def _matmul(
        self, name: str, x: str, matrix: Floats, bias: Optional[Floats] = None, tap: str = ""
    ) -> str:
        """x [rows, in] times ``matrix`` [in, out], plus ``bias`` [out]."""
        key = self._inputs.setdefault(x, tap or name)
        added = [] if bias is None else [self.weight(f"{name}.bias", bias)]
        if self._ranges is None:
            weight = self.weight(f"{name}.weight", matrix)
            if added:
                return self.op("Gemm", x, weight, *added)
            return self.op("MatMul", x, weight)
        rounded, scale, zero = self._rounded(x, self._ranges[key])
        codes, scales = _quantise_columns(matrix)
        code_of_zero = ""
        if not self._signed:
            codes = (codes.astype(np.int16) + 128).astype(np.uint8)
            code_of_zero = self.weight("code_of_zero", np.array(128, np.uint8))
        return self.op(
            "MatMulIntegerToFloat",
            rounded,
            self.weight(f"{name}.int8", codes),
            scale,
            self.weight(f"{name}.scale", scales),
            zero,
            code_of_zero,
            *added,
            domain=ORT_DOMAIN,
        )

    def _rounded(self, x: str, span: Range) -> tuple[str, str, str]:
        """``x`` in 8 bits, its scale and its zero point; once for all matrices that use it."""
        if x not in self._quantised:
            scale = self.weight(f"{x}.scale", np.array(span.scale, np.float32))
            zero = self.weight(f"{x}.zero", np.array(span.zero_point, np.uint8))
            self._quantised[x] = (self.op("QuantizeLinear", x, scale, zero), scale, zero)
        return self._quantised[x]

    def _output_layer(self, model: TransformerLM, hidden: str) -> str:
        """The wanted log-probabilities; the vocabulary is taken a chunk at a time."""
        if model.embedding.projection is not None:
            matrix = to_numpy(model.embedding.projection).T
            hidden = self._matmul("output.projection", hidden, matrix)
        table = to_numpy(model.embedding.output_weight).T  # [D, V]
        size = table.shape[1]
        if size <= self._chunk and self._log_softmax:
            logits = self._matmul("output", hidden, table)  # [N, V]
            log_probs = self.op("LogSoftmax", logits, axis=-1)
            return self.op("GatherND", log_probs, self._pairs("targets"), name=OUTPUT)
        normalisers, wanted = [], []
        for start in range(0, size, self._chunk):
            part = table[:, start : start + self._chunk]
            logits = self._matmul(f"output.{start}", hidden, part, tap="output")
            normalisers.append(self.normaliser(logits))
            wanted.append(self._wanted(logits, start, part.shape[1]))
        every = self.op("Concat", *normalisers, axis=1)  # [N, chunks]
        normaliser = self.op("ReduceLogSumExp", every, self.ints(1), keepdims=0)  # [N]
        normaliser = self.op("Gather", normaliser, "sources", axis=0)
        return self.op("Sub", self.op("Sum", *wanted), normaliser, name=OUTPUT)

    def normaliser(self, logits: str) -> str:
        """ln sum exp of each row, [N, 1]."""
        if self._log_softmax:
            return super().normaliser(logits)
        most = self.op("ReduceMax", logits, self.ints(1), keepdims=1)
        powers = self.op("Exp", self.op("Sub", logits, most))
        total = self.op("ReduceSum", powers, self.ints(1), keepdims=1)
        return self.op("Add", most, self.op("Log", total))

    def _pairs(self, columns: str) -> str:
        source = self.op("Unsqueeze", "sources", self.ints(1))
        return self.op("Concat", source, self.op("Unsqueeze", columns, self.ints(1)), axis=1)

    def _wanted(self, logits: str, start: int, size: int) -> str:
        """The logits of the targets in this chunk, 0 for the others: [P]."""
        low, high = (
            self.weight(f"int_{i}", np.array(i, np.int64)) for i in (start, start + size - 1)
        )
        inside = self.op("Clip", "targets", low, high)
        found = self.op("GatherND", logits, self._pairs(self.op("Sub", inside, low)))
        here = self.op("Equal", inside, "targets")
        return self.op("Where", here, found, self.number(0.0))


def _quantise_columns(matrix: Floats) -> tuple[NDArray[Any], Floats]:
    """Quantised values -127..127 and a scale a column: matrix ~ values * scales; zeros stay zero.

    Those of rows 2i and 2i + 1 with the same sign add up to 128 at most: see
    onnx_saturation.py. That makes the steps of a trained matrix about 1.3 times as wide, not twice,
    since the largest weights of a column seldom stand side by side.
    """
    rows, columns = matrix.shape
    pairs = np.zeros((rows + rows % 2, columns), np.float32)
    pairs[:rows] = matrix
    pairs = pairs.reshape(-1, 2, columns)
    up, down = np.maximum(pairs, 0).sum(axis=1), np.minimum(pairs, 0).sum(axis=1)
    scales = np.maximum(up, -down).max(axis=0, initial=0.0) / 127
    scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
    return np.round(matrix / scales).astype(np.int8), scales


def quantised_names(model: onnx.ModelProto) -> Sequence[str]:
    """Names of the matrices of ``model`` that are stored in 8 bits."""
    return [w.name.removesuffix(".int8") for w in model.graph.initializer if ".int8" in w.name]
