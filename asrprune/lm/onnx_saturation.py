"""Whether this machine multiplies unsigned by signed 8-bit integers exactly.

x86 without VNNI adds two such products in 16 bits, which are cut at 32767 without a word:
255 * 127 + 255 * 127 is 64770. ONNX Runtime's documentation warns of it ("U8S8 on AVX2 and
AVX512"). Unsigned weights are widened first and exact everywhere, but have no fast instruction
where the signed ones have, so it is tried out which of the two this machine wants.
"""

from __future__ import annotations

import functools

import numpy as np

from asrprune.errors import MissingPackage
from asrprune.lm.onnx_engine import open_session
from asrprune.lm.onnx_graph import IR_VERSION, OPSET

_SIZE = 64


@functools.lru_cache(maxsize=1)
def signed_is_exact() -> bool:
    """Tries the largest products there are. Raises MissingPackage without onnx, onnxruntime."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        raise MissingPackage("onnx", "export") from None
    weight = numpy_helper.from_array(np.full((_SIZE, _SIZE), 127, np.int8), "weight")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "weight"], ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [_SIZE, _SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [_SIZE, _SIZE])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    session = open_session(model.SerializeToString(), 1)
    (found,) = session.run(["y"], {"x": np.full((_SIZE, _SIZE), 255, np.uint8)})
    return bool((found == _SIZE * 255 * 127).all())
