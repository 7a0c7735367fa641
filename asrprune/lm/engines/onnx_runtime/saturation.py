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
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from asrprune.errors import MissingPackage
from asrprune.lm.engines.onnx_runtime.graph import IR_VERSION, OPSET
from asrprune.lm.engines.onnx_runtime.session import open_session

if TYPE_CHECKING:
    import onnxruntime

LARGEST = ((127, 1), (1, 127), (64, 64), (127, -127), (-127, 127), (-127, -1), (-64, -64))
"""Quantised weights of two neighbouring inputs as large as they get."""
_SIZE = 64


@functools.lru_cache(maxsize=1)
def signed_is_exact() -> bool:
    """Tries the largest products there are, of one row and of several.

    Raises MissingPackage without onnx, onnxruntime.
    """
    drawn = np.random.default_rng(0)
    pairs = np.array(LARGEST, np.int8)[drawn.integers(len(LARGEST), size=(_SIZE // 2, _SIZE))]
    codes = pairs.transpose(0, 2, 1).reshape(_SIZE, _SIZE)
    session = product_session(codes)
    x = drawn.choice(np.array([0, 255], np.uint8), (_SIZE, _SIZE), p=[0.1, 0.9])
    return all(
        bool((session.run(["y"], {"x": rows})[0] == rows.astype(int) @ codes.astype(int)).all())
        for rows in (x, x[:1], x[:5])
    )


def product_session(codes: NDArray[np.int8]) -> onnxruntime.InferenceSession:
    """``y`` [rows, out] int32, the product of ``x`` [rows, in] uint8 and ``codes`` [in, out]."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        raise MissingPackage("onnx", "export") from None
    size, outputs = codes.shape
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "codes"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["rows", size])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["rows", outputs])],
        [numpy_helper.from_array(np.ascontiguousarray(codes), "codes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    return open_session(model.SerializeToString(), 1)
