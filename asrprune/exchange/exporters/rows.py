"""What the graphs over rows of tokens have in common: the tokens' way through the LM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from asrprune.exchange.exporters.numbers import INT8, quantise
from asrprune.lm.engines.onnx_runtime.writer import Floats, GraphWriter, to_numpy
from asrprune.lm.model.attention import Attention
from asrprune.lm.model.transformer import TransformerLM

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 20, 9
"""ONNX Runtime 1.17 and later."""

VOCAB_CHUNK = 8192
"""Columns of the output layer at a time where tokens are scored: memory is tokens x chunk."""

_MASKED = -1e9  # far below any attention logit, and finite

Joined = Callable[[str, Attention, str, str], tuple[str, str]]
"""(block, its attention, keys, values [rows, G*K]) -> all that is attended to, [N, G, S, K]."""


class RowsWriter(GraphWriter):
    """Writes the way of ``tokens`` [N, T] through ``model``; ``numbers`` is how weights are stored.

    Positions are given, so that rows may start anywhere; ``joined`` puts keys and values of earlier
    calls before those of this one.
    """

    def __init__(self, model: TransformerLM, numbers: str, vocab_chunk: int = VOCAB_CHUNK) -> None:
        super().__init__()
        self._lm = model
        self._numbers = numbers
        self._chunk = vocab_chunk
        self._shape = ""  # of the tokens, [2]
        self._restored: dict[str, str] = {}
        self._mask: Optional[str] = None
        self.joined: Joined = self._alone

    @property
    def vocab_size(self) -> int:
        return self._lm.embedding.vocab_size

    def made(
        self, inputs: Mapping[str, Sequence[Any]], outputs: Mapping[str, Sequence[Any]]
    ) -> onnx.ModelProto:
        """The graph. Names -> axes; ``tokens``, ``lengths`` and the like are int64, the rest is
        float32."""
        helper, types = self._onnx.helper, self._onnx.TensorProto
        whole = [
            name for name in inputs if name in ("tokens", "lengths", "past_lens", "x", "x_lens")
        ]
        given = [
            helper.make_tensor_value_info(
                name, types.INT64 if name in whole else types.FLOAT, list(axes)
            )
            for name, axes in inputs.items()
        ]
        put_out = [
            helper.make_tensor_value_info(name, types.FLOAT, list(axes))
            for name, axes in outputs.items()
        ]
        return self.model(given, put_out, [helper.make_opsetid("", OPSET)], IR_VERSION)

    def whole(self, value: int) -> str:
        """A scalar int64."""
        return self.weight(f"int_{value}", np.array(value, np.int64))

    def item(self, shape: str, index: int) -> str:
        """One of the sizes in ``shape``, a scalar."""
        return self.op("Gather", shape, self.whole(index), axis=0)

    def counting(self, size: str) -> str:
        """0, 1, ... [size]."""
        return self.op("Range", self.whole(0), size, self.whole(1))

    def flat(self, x: str) -> str:
        """All values in one axis."""
        return self.op("Reshape", x, self.ints(-1))

    def zero_double(self) -> Any:
        """0 in float64, as the value of a ConstantOfShape."""
        return self._onnx.helper.make_tensor("zero", self._onnx.TensorProto.DOUBLE, [1], [0.0])

    def causal(
        self, columns: str, before: Optional[str] = None, counted: Optional[str] = None
    ) -> None:
        """Let each token attend to itself and those before it: of the ``columns`` [T] and, with a
        cache, of the last ``counted`` [N, 1] of ``before`` tokens."""
        query = self.op("Unsqueeze", columns, self.ints(1))  # [T, 1]
        if before is None or counted is None:
            allowed = self.op("LessOrEqual", columns, query)  # [T, S]
        else:
            keys = self.counting(
                self.op("Add", before, self.item(self.op("Shape", columns), 0))
            )  # [S]
            allowed = self.op("LessOrEqual", keys, self.op("Add", query, before))  # [T, S]
            first = self.op("Sub", before, counted)  # [N, 1]
            within = self.op("GreaterOrEqual", keys, first)  # [N, S]
            within = self.op("Unsqueeze", within, self.ints(1, 2))  # [N, 1, 1, S]
            allowed = self.op("And", allowed, within)
        self._mask = self.op("Where", allowed, self.number(0.0), self.number(_MASKED))

    def hidden(self, tokens: str, shape: str, positions: str) -> str:
        """What the last norm reads, [N*T, D], of ``tokens`` at ``positions``, both [N, T]."""
        self._shape = shape
        model, tokens, positions = self._lm, self.flat(tokens), self.flat(positions)
        x = self._embedded(tokens)
        if model.positions is None:
            self.rotation = self.rotary(model, positions)
        else:
            table = self.weight("positions.weight", to_numpy(model.positions))
            x = self.op("Add", x, self.op("Gather", table, positions, axis=0))
        for index, block in enumerate(model.layers()):
            x = self.block(f"blocks.{index}", block, x)
        return x

    def logits(self, hidden: str) -> str:
        """[rows, D] as ``hidden`` puts out to [rows, V]."""
        features = self._features(hidden)
        return self.op("Gemm", features, self._output(), transB=1)

    def log_probs(self, hidden: str, targets: str) -> str:
        """ln P of ``targets`` [rows] after the tokens of ``hidden`` [rows, D], [rows]."""
        column = self.op("Unsqueeze", targets, self.ints(1))
        if self.vocab_size <= self._chunk:
            every = self.op("LogSoftmax", self.logits(hidden), axis=-1)
            found = self.op("GatherElements", every, column, axis=1)
            return self.op("Squeeze", found, self.ints(1))
        features = self._features(hidden)
        normalisers, wanted = [], []
        for start in range(0, self.vocab_size, self._chunk):
            stop = min(start + self._chunk, self.vocab_size)
            logits = self.op("Gemm", features, self._output(start, stop), transB=1)
            normalisers.append(self.normaliser(logits))
            inside = self.op("Clip", column, self.whole(start), self.whole(stop - 1))
            offset = self.op("Sub", inside, self.whole(start))
            found = self.op("GatherElements", logits, offset, axis=1)  # [rows, 1]
            here = self.op("Equal", inside, column)
            wanted.append(self.op("Where", here, found, self.number(0.0)))
        every = self.op("Concat", *normalisers, axis=1)  # [rows, chunks]
        normaliser = self.op("ReduceLogSumExp", every, self.ints(1), keepdims=1)
        scores = self.op("Sub", self.op("Sum", *wanted), normaliser)
        return self.op("Squeeze", scores, self.ints(1))

    def by_head(self, x: str, heads: int, attn: Attention) -> str:
        """[N*T, heads*K] to [N, heads, T, K]."""
        shape = self.op("Concat", self._shape, self.ints(heads, attn.head_dim), axis=0)
        return self.op("Transpose", self.op("Reshape", x, shape), perm=[0, 2, 1, 3])

    def _alone(self, name: str, attn: Attention, key: str, value: str) -> tuple[str, str]:
        key, value = (self.by_head(part, attn.kv_heads, attn) for part in (key, value))
        return key, value

    def _context(self, name: str, attn: Attention, query: str, key: str, value: str) -> str:
        query = self.by_head(query, attn.heads, attn)  # [N, H, T, K]
        query = self.op("Mul", query, self.number(float(attn.head_dim) ** -0.5))
        key, value = self.joined(name, attn, key, value)
        key, value = (self.shared(part, attn, axis=1) for part in (key, value))  # [N, H, S, K]
        logits = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2]))
        if self._mask is not None:
            logits = self.op("Add", logits, self._mask)  # [N, H, T, S]
        context = self.op("MatMul", self.op("Softmax", logits, axis=-1), value)
        context = self.op("Transpose", context, perm=[0, 2, 1, 3])  # [N, T, H, K]
        return self.op("Reshape", context, self.ints(-1, attn.heads * attn.head_dim))

    def _matmul(
        self, name: str, x: str, matrix: Floats, bias: Optional[Floats] = None, tap: str = ""
    ) -> str:
        stored = self._stored(name, matrix, axis=1)
        if bias is None:
            return self.op("MatMul", x, stored)
        return self.op("Gemm", x, stored, self.weight(f"{name}.bias", bias))

    def _stored(self, name: str, matrix: Floats, axis: int) -> str:
        """A matrix in float32, whatever it is stored in; its outputs are on ``axis``."""
        if self._numbers != INT8:
            return self.weight(f"{name}.weight", matrix)
        if name not in self._restored:
            codes, scales = self._codes(name, matrix, axis)
            self._restored[name] = self.op("DequantizeLinear", codes, scales, axis=axis)
        return self._restored[name]

    def _codes(self, name: str, matrix: Floats, axis: int) -> tuple[str, str]:
        """The 8 bits of a matrix and their scales."""
        names = f"{name}.int8", f"{name}.scale"
        if names[0] not in self._weights:
            codes, scales = quantise(matrix, axis)
            self.weight(names[0], codes)
            self.weight(names[1], scales)
        return names

    def _embedded(self, tokens: str) -> str:
        """The vectors of ``tokens`` [rows], [rows, D]."""
        embedding = self._lm.embedding
        table = to_numpy(embedding.weight)
        if self._numbers == INT8:
            codes, scales = self._codes("embedding", table, axis=0)
            rows = self.op("Cast", self.op("Gather", codes, tokens, axis=0), to=1)
            scale = self.op("Unsqueeze", self.op("Gather", scales, tokens, axis=0), self.ints(1))
            x = self.op("Mul", rows, scale)
        else:
            x = self.op("Gather", self.weight("embedding.weight", table), tokens, axis=0)
        return x if embedding.projection is None else self.op("MatMul", x, self._projection())

    def _projection(self) -> str:
        projection = self._lm.embedding.projection
        assert projection is not None  # asked by those who use it
        return self._stored("projection", to_numpy(projection), axis=0)  # [rank, D]

    def _features(self, hidden: str) -> str:
        """What the output layer multiplies."""
        x = self.norm("norm", self._lm.norm, hidden)
        if self._lm.embedding.projection is None:
            return x
        return self.op("Gemm", x, self._projection(), transB=1)

    def _output(self, start: int = 0, stop: Optional[int] = None) -> str:
        """Rows of the output layer, [stop - start, D or rank]."""
        embedding = self._lm.embedding
        name = "embedding" if embedding.tied else "output"
        table = to_numpy(embedding.output_weight)
        if self._numbers != INT8:
            return self._cut(self.weight(f"{name}.weight", table), start, stop)
        parts = (self._cut(one, start, stop) for one in self._codes(name, table, axis=0))
        return self.op("DequantizeLinear", *parts, axis=0)

    def _cut(self, x: str, start: int, stop: Optional[int]) -> str:
        if stop is None:
            return x
        return self.op("Slice", x, self.ints(start), self.ints(stop), self.ints(0))
