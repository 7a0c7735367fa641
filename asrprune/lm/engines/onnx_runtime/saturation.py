"""Whether this machine multiplies the quantised values of graph.py exactly.

x86 without VNNI multiplies unsigned inputs by signed weights two at a time and adds both products
in 16 bits, which are cut at 32767 without a word: 255 * 127 + 255 * 127 is 64770. ONNX Runtime's
documentation warns of it ("U8S8 on AVX2 and AVX512") and offers weights of 7 bits. Which two are
added is known, inputs 2i and 2i + 1: it is enough that their weights, where they have the same
sign, add up to 128 at most (255 * 128 = 32640). Unsigned weights are widened first, which is exact
whatever the order, and slower: they are for a runtime that adds other pairs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asrprune.errors import MissingPackage
from asrprune.lm.engines.onnx_runtime.graph import IR_VERSION, OPSET, ORT_DOMAIN
from asrprune.lm.engines.onnx_runtime.session import open_session

if TYPE_CHECKING:
    import onnxruntime

LARGEST = ((127, 1), (1, 127), (64, 64), (127, -127), (-127, 127), (-127, -1), (-64, -64))
"""Quantised weights of two neighbouring inputs as large as they get."""
_SIZE = 64


Multiply = Callable[[NDArray[np.uint8]], NDArray[Any]]
"""``multiply(x)``: the product of ``x`` [rows, in] with the codes that it was made for."""


@functools.lru_cache(maxsize=1)
def signed_is_exact() -> bool:
    """Whether ONNX Runtime is exact. Raises MissingPackage without onnx, onnxruntime."""

    def opened(codes: NDArray[np.int8]) -> Multiply:
        session = product_session(codes)
        return lambda x: session.run(["y"], {"x": x})[0]  # type: ignore[no-any-return]

    return multiplies_exactly(opened)


def multiplies_exactly(opened: Callable[[NDArray[np.int8]], Multiply]) -> bool:
    """Tries the largest products there are, of one row and of several, on ``opened(codes)``;
    ``codes`` [in, out] are signed."""
    drawn = np.random.default_rng(0)
    pairs = np.array(LARGEST, np.int8)[drawn.integers(len(LARGEST), size=(_SIZE // 2, _SIZE))]
    codes = pairs.transpose(0, 2, 1).reshape(_SIZE, _SIZE)
    multiply = opened(codes)
    x = drawn.choice(np.array([0, 255], np.uint8), (_SIZE, _SIZE), p=[0.1, 0.9])
    return all(
        bool((multiply(rows) == rows.astype(int) @ codes.astype(int)).all())
        for rows in (x, x[:1], x[:5])
    )


def product_session(codes: NDArray[np.int8]) -> onnxruntime.InferenceSession:
    """``y`` [rows, out] int32, the product of ``x`` [rows, in] uint8 and ``codes`` [in, out]."""
    return open_session(product_graph(codes, in_floats=False), 1)


def product_graph(codes: NDArray[np.int8], in_floats: bool) -> bytes:
    """A serialised graph of the product of ``x`` [rows, in] and ``codes`` [in, out], ``y``.

    ``x`` is uint8 and ``y`` int32, or both are float32 and what is between them is what graph.py
    writes, with scales of 1. Raises MissingPackage without onnx.
    """
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        raise MissingPackage("onnx", "export") from None
    size, outputs = codes.shape
    weights = {"codes": np.ascontiguousarray(codes)}
    nodes = [helper.make_node("MatMulInteger", ["x", "codes"], ["y"])]
    types = TensorProto.UINT8, TensorProto.INT32
    if in_floats:
        weights |= {"one": np.array(1, np.float32), "zero": np.array(0, np.uint8)}
        weights |= {"ones": np.ones(outputs, np.float32)}
        inputs = ["rounded", "codes", "one", "ones", "zero"]
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["rounded"]),
            helper.make_node("MatMulIntegerToFloat", inputs, ["y"], domain=ORT_DOMAIN),
        ]
        types = TensorProto.FLOAT, TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", types[0], ["rows", size])],
        [helper.make_tensor_value_info("y", types[1], ["rows", outputs])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ORT_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString())
