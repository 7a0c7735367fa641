"""LM scoring with ONNX Runtime."""

from __future__ import annotations

from dataclasses import asdict
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.lm.device import default_threads
from asrprune.lm.engines.engine import cpu_token_budget
from asrprune.lm.engines.onnx_runtime.graph import OUTPUT, build_graph
from asrprune.lm.engines.onnx_runtime.session import open_session
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.trie import TrieBatch


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

    def token_budget(self, deepest: int) -> int:
        return cpu_token_budget(self.passes)

    def log_probs(self, batch: TrieBatch) -> NDArray[np.float64]:
        (values,) = self._session.run([OUTPUT], asdict(batch))
        result: NDArray[np.float64] = values.astype(np.float64)
        return result


def float_graph(model: TransformerLM) -> bytes:
    """The model as a serialised float32 graph. Raises MissingPackage without onnx."""
    return bytes(build_graph(model).SerializeToString())
