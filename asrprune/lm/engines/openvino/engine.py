"""LM scoring with OpenVINO."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict
from typing import Optional

import numpy as np
import torch
from numpy.typing import NDArray

from asrprune.lm.device import default_threads
from asrprune.lm.engines.engine import EngineOptions, cpu_token_budget
from asrprune.lm.engines.onnx_runtime.calibration import int8_graph
from asrprune.lm.engines.onnx_runtime.graph import build_graph
from asrprune.lm.engines.onnx_runtime.saturation import Multiply, multiplies_exactly, product_graph
from asrprune.lm.engines.openvino.runtime import CompiledGraph
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.trie import QUERIES, TrieBatch
from asrprune.text.tokenizer import Tokenizer

INSTRUCTIONS: Mapping[str, Mapping[str, str]] = {
    "f32": {"avx512_f": "AVX-512", "avx2": "AVX2"},
    "bf16": {"avx512_bf16": "AVX-512 BF16"},
    "int8": {"avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX-VNNI", "avx2": "AVX2"},
}
"""Number format -> names that torch has for instructions on it, and ours, the fastest first; AMX
is left out, since OpenVINO says itself where it uses that."""


class OpenVinoEngine:
    """Runs a graph of lm/engines/onnx_runtime/graph.py on the CPU.

    ``numbers``: "f32", "bf16" or "int8", what matrices are to be multiplied in; ``rest``: "f32" or
    "bf16", for everything else. Each pass has one thread, and ``threads`` of them run at once.
    """

    device = "cpu"

    def __init__(
        self, graph: bytes, numbers: str, rest: str, threads: Optional[int] = None
    ) -> None:
        self.passes = threads or default_threads()
        self._graph = CompiledGraph(graph, rest, self.passes)
        self.log_probs(_some_batch())  # kernels are chosen at the first call
        self.note = describe(numbers, self._graph.products())

    def token_budget(self, deepest: int) -> int:
        return cpu_token_budget(self.passes)

    def log_probs(self, batch: TrieBatch) -> NDArray[np.float64]:
        result: NDArray[np.float64] = self._graph.run(asdict(batch)).astype(np.float64)
        return result


def _some_batch() -> TrieBatch:
    row = np.zeros((1, QUERIES), np.int64)
    places = np.arange(QUERIES)
    return TrieBatch(row, row, row + QUERIES - 1, places[None], places, places, row[0])


def open_openvino(
    model: TransformerLM, numbers: str, options: EngineOptions, tokenizer: Optional[Tokenizer]
) -> OpenVinoEngine:
    """The engine for a model. Raises MissingPackage without openvino and onnx, and in int8 without
    onnxruntime, which measures the ranges."""
    if numbers == "int8":
        graph = int8_graph(model, options, tokenizer, signed_is_exact(), log_softmax=False)
        return OpenVinoEngine(graph, "int8", "bf16", options.threads)
    graph = build_graph(model, log_softmax=False).SerializeToString()
    return OpenVinoEngine(graph, numbers, numbers, options.threads)


@functools.lru_cache(maxsize=1)
def signed_is_exact() -> bool:
    """Whether OpenVINO multiplies signed weights exactly. Raises MissingPackage without it."""

    def opened(codes: NDArray[np.int8]) -> Multiply:
        graph = CompiledGraph(product_graph(codes, in_floats=True), "f32")
        return lambda x: graph.run({"x": x.astype(np.float32)})

    return multiplies_exactly(opened)


def describe(numbers: str, products: set[tuple[str, str]]) -> str:
    """What multiplies matrices, for the log, from ``CompiledGraph.products``: number format and
    instruction set, and where that is not what was asked for."""
    tell = getattr(torch.cpu, "get_capabilities", None)  # older torch does not have it
    able = {} if tell is None else tell()
    parts = []
    for form in sorted({"int8" if form in ("u8", "i8") else form for form, _ in products}):
        kernels = [kernel for one, kernel in products if one == form or form == "int8"]
        known = [ours for name, ours in INSTRUCTIONS.get(form, {}).items() if able.get(name)]
        if all("_amx_" in kernel for kernel in kernels):
            known = ["AMX"]
        parts.append(f"{form} on {known[0]}" if known else f"{form}, no instructions for it known")
    if not parts[0].startswith(numbers) or len(parts) > 1:
        return f"asked for {numbers}, this processor runs {' and '.join(parts)}"
    return parts[0]
