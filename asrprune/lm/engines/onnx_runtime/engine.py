"""LM scoring with ONNX Runtime."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.errors import MissingPackage
from asrprune.lm.engines.onnx_runtime.graph import OUTPUT
from asrprune.lm.engines.table import default_threads
from asrprune.lm.trie import TrieBatch

if TYPE_CHECKING:
    import onnxruntime


class OnnxEngine:
    """Runs a graph of lm/engines/onnx_runtime/graph.py on the CPU.

    Each pass has one thread and ``threads`` of them run at once: dividing every product among
    threads, as ONNX Runtime does, was measured to be slower, the more so the smaller the model.
    """

    note = ""

    def __init__(self, graph: bytes, threads: Optional[int] = None) -> None:
        self.passes = threads or default_threads()
        self._session = open_session(graph, 1)

    @property
    def device(self) -> str:
        return "cpu"

    def log_probs(self, batch: TrieBatch) -> NDArray[np.float64]:
        (values,) = self._session.run([OUTPUT], asdict(batch))
        result: NDArray[np.float64] = values.astype(np.float64)
        return result


def open_session(graph: bytes, threads: Optional[int] = None) -> onnxruntime.InferenceSession:
    """A session on the CPU. Raises MissingPackage without the package onnxruntime.

    Waiting threads sleep instead of spinning, so that they take no core from others.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingPackage("onnxruntime", "export") from None
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # every batch has its own shape
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
