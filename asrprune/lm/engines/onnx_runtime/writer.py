"""What every ONNX graph of the LM is made of: its weights and its blocks, written node by node.

No tracing: any pruned shape, any stored form of a matrix. Graphs differ in where their tokens stand
(rows, or the places of a trie), in what attends to what, and in how weights are stored: that is
what a subclass of GraphWriter adds. Values between blocks are [rows, D], a row a token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import torch
from numpy.typing import NDArray

from asrprune.errors import MissingPackage
from asrprune.lm.model.anatomy import Block
from asrprune.lm.model.architecture import architecture_of, details_of
from asrprune.lm.model.attention import Attention
from asrprune.lm.model.matrices import Matrix
from asrprune.lm.model.transformer import TransformerLM

if TYPE_CHECKING:
    import onnx

Floats = NDArray[np.float32]


class GraphWriter(ABC):
    """Collects nodes and weights; every method returns the name of the tensor it made.

    Raises MissingPackage without the package onnx.
    """

    def __init__(self) -> None:
        try:
            import onnx
        except ImportError:
            raise MissingPackage("onnx", "export") from None
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._weights: dict[str, Any] = {}
        self.rotation: Optional[tuple[str, str]] = None  # cosines and sines [rows, 1, K]

    @abstractmethod
    def _matmul(
        self, name: str, x: str, matrix: Floats, bias: Optional[Floats] = None, tap: str = ""
    ) -> str:
        """x [rows, in] times ``matrix`` [in, out], plus ``bias`` [out]."""

    @abstractmethod
    def _context(self, name: str, attn: Attention, query: str, key: str, value: str) -> str:
        """What the heads take from the values, [rows, H*K]; queries [rows, H*K], keys and values
        [rows, G*K] are turned already."""

    def model(
        self, inputs: list[Any], outputs: list[Any], opsets: list[Any], ir_version: int
    ) -> onnx.ModelProto:
        """All that was collected, as a model."""
        helper = self._onnx.helper
        weights = list(self._weights.values())
        graph = helper.make_graph(self._nodes, "asrprune", inputs, outputs, weights)
        made: onnx.ModelProto = helper.make_model(
            graph, opset_imports=opsets, producer_name="asrprune"
        )
        made.ir_version = ir_version
        return made

    def op(self, kind: str, *inputs: str, name: Optional[str] = None, **attributes: Any) -> str:
        name = name or f"{kind}_{len(self._nodes)}"
        node = self._onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes)
        self._nodes.append(node)
        return name

    def weight(self, name: str, value: NDArray[Any]) -> str:
        if name not in self._weights:
            value = np.ascontiguousarray(value)
            self._weights[name] = self._onnx.numpy_helper.from_array(value, name)
        return name

    def ints(self, *values: int) -> str:
        return self.weight(f"ints_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def number(self, value: float) -> str:
        return self.weight(f"float_{value!r}", np.array(value, np.float32))

    def rotary(self, model: TransformerLM, places: str) -> tuple[str, str]:
        """Cosines and sines of all positions as tables, and their rows at the ``places`` [rows]."""
        shape = model.shape
        rotation = architecture_of(shape).rotation
        assert rotation is not None  # the anatomy says so
        every = torch.arange(shape.max_positions)[None]
        tables = zip(("cos", "sin"), rotation(every, shape.head_dim, details_of(shape)))
        cos, sin = (
            self.op("Gather", self.weight(name, to_numpy(table[0])[:, None]), places, axis=0)
            for name, table in tables
        )  # [rows, 1, K]
        return cos, sin

    def norm(self, name: str, norm: torch.nn.Module, x: str) -> str:
        values = {part: to_numpy(value) for part, value in norm.named_parameters()}
        weight = self.weight(f"{name}.weight", values["weight"])
        epsilon = float(norm.eps)  # type: ignore[arg-type]
        if "bias" in values:
            bias = self.weight(f"{name}.bias", values["bias"])
            return self.op("LayerNormalization", x, weight, bias, epsilon=epsilon, axis=-1)
        square = self.op("ReduceMean", self.op("Mul", x, x), self.ints(-1), keepdims=1)
        root = self.op("Sqrt", self.op("Add", square, self.number(epsilon)))
        return self.op("Mul", self.op("Div", x, root), weight)

    def block(self, name: str, block: Block, x: str) -> str:
        norm_attn, norm_ffn = block.anatomy.readers
        added = self._attention(name, block, norm_attn, x)
        x = x if added is None else self.op("Add", x, added)
        ffn = block.anatomy.ffn
        down = block.linear(ffn.reader)
        if down.in_features == 0:
            bias = self._bias(f"{name}.{ffn.reader}", down)
            return x if bias is None else self.op("Add", x, bias)
        inner = self.norm(f"{name}.{norm_ffn}", block.get_submodule(norm_ffn), x)
        made = [self._linear(f"{name}.{one}", block.linear(one), inner) for one in ffn.makers]
        inner = self._activation(block.anatomy.activation, made)
        return self.op("Add", x, self._linear(f"{name}.{ffn.reader}", down, inner))

    def _activation(self, kind: str, made: list[str]) -> str:
        """What the FFN's outer matrix reads, from what its makers put out."""
        if kind == "gelu-tanh":
            return self.op("Gelu", *made, approximate="tanh")
        gate, up = made  # silu-gated
        return self.op("Mul", self.op("Mul", gate, self.op("Sigmoid", gate)), up)

    def _attention(self, name: str, block: Block, norm: str, x: str) -> Optional[str]:
        """What attention adds to the stream; None: nothing."""
        attn, names = block.attn, block.anatomy.attention
        out = block.linear(names.reader)
        if attn.heads == 0:
            return self._bias(f"{name}.{names.reader}", out)
        inner = self.norm(f"{name}.{norm}", block.get_submodule(norm), x)
        query, key, value = (
            self._linear(f"{name}.{one}", block.linear(one), inner) for one in names.makers
        )
        query = self._turned(query, attn.heads, attn)
        key = self._turned(key, attn.kv_heads, attn)
        context = self._context(name, attn, query, key, value)
        return self._linear(f"{name}.{names.reader}", out, context)

    def _turned(self, x: str, heads: int, attn: Attention) -> str:
        """Queries or keys [rows, heads*K] turned by their positions, if the model turns them."""
        if self.rotation is None:
            return x
        cos, sin = self.rotation
        half = attn.head_dim // 2
        x = self.op("Reshape", x, self.ints(-1, heads, attn.head_dim))  # [rows, heads, K]
        first = self.op("Slice", x, self.ints(0), self.ints(half), self.ints(2))
        second = self.op("Slice", x, self.ints(half), self.ints(attn.head_dim), self.ints(2))
        crossed = self.op("Concat", self.op("Neg", second), first, axis=2)
        turned = self.op("Add", self.op("Mul", x, cos), self.op("Mul", crossed, sin))
        return self.op("Reshape", turned, self.ints(-1, heads * attn.head_dim))

    def shared(self, part: str, attn: Attention, axis: int) -> str:
        """Keys or values with a copy for each query head, the key and value heads on ``axis``."""
        if attn.groups is None:
            return part
        owners = np.repeat(np.arange(len(attn.groups)), attn.groups).tolist()
        return self.op("Gather", part, self.ints(*owners), axis=axis)

    def _heads(self, x: str, places: str, heads: int, attn: Attention) -> str:
        """``x`` with a row for each of ``places``, as [.., .., heads, K]."""
        shape = self.op("Shape", places)
        shape = self.op("Concat", shape, self.ints(heads, attn.head_dim), axis=0)
        return self.op("Reshape", x, shape)

    def normaliser(self, logits: str) -> str:
        """ln sum exp of each row, [N, 1]: what LogSoftmax takes from the first column.

        ONNX Runtime's ReduceLogSumExp is 4 to 8 times as slow at 4,000 to 8,000 columns.
        """
        after = self.op("LogSoftmax", logits, axis=-1)
        first = (self.op("Gather", part, self.ints(0), axis=1) for part in (logits, after))
        return self.op("Sub", *first)

    def _bias(self, name: str, linear: Matrix) -> Optional[str]:
        return None if linear.bias is None else self.weight(f"{name}.bias", to_numpy(linear.bias))

    def _linear(self, name: str, linear: Matrix, x: str) -> str:
        bias = None if linear.bias is None else to_numpy(linear.bias)
        *inner, last = linear.parts
        if inner and len(linear.parts[inner[0]]) == 0:  # rank 0
            zero = self.op("ReduceSum", x, self.ints(-1), keepdims=1)
            zero = self.op("Mul", zero, self.number(0.0))
            zeros = np.zeros(linear.out_features, np.float32) if bias is None else bias
            return self.op("Add", zero, self.weight(f"{name}.bias", zeros))
        for part in inner:
            x = self._matmul(f"{name}.{part}", x, to_numpy(linear.parts[part]).T)
        matrix = to_numpy(linear.parts[last]).T
        if linear.arrangement is None:
            return self._matmul(f"{name}.{last}" if inner else name, x, matrix, bias)
        rest = self._matmul(f"{name}.{last}", x, matrix)
        every = self.op("Concat", x, rest, axis=-1)  # [rows, out]
        order = self.weight(f"{name}.order", linear.arrangement.cpu().numpy())
        every = self.op("Gather", every, order, axis=-1)
        shift = self._bias(name, linear)
        return every if shift is None else self.op("Add", every, shift)


def to_numpy(value: torch.Tensor) -> Floats:
    """A copy in float32."""
    array: Floats = value.detach().cpu().float().numpy()
    return array
