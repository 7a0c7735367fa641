"""A graph compiled by OpenVINO for the CPU."""

from __future__ import annotations

import functools
import sys
from queue import SimpleQueue
from typing import Any

from numpy.typing import NDArray

from asrprune.errors import MissingPackage


def import_openvino() -> Any:
    """The package openvino, kept from reporting its use. Raises MissingPackage without it.

    ``import openvino`` sends an event to Google Analytics and writes to ~/intel, unless the user
    has opted out or the package openvino_telemetry is missing: then it takes a stub of its own.
    So that package is made unimportable in this process first.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError:
        raise MissingPackage("openvino", "openvino") from None
    return openvino


@functools.lru_cache(maxsize=1)
def _core(openvino: Any) -> Any:
    """OpenVINO's state, one for the process and never freed.

    Each Core gives this thread a larger stack for signals, and puts back the one before as it goes.
    Where two go first in, first out, the stack of the first, which is freed, stays in use: the
    next signal that Python handles, such as Ctrl-C, then ends the process by SIGSEGV.
    """
    return openvino.Core()


class CompiledGraph:
    """An ONNX graph with one output; calls from up to ``passes`` threads run at once, each in one
    thread. ``precision``: "f32" or "bf16", of what the graph does not say to do in integers.

    OpenVINO's fused attention stays on (SNIPPETS_MODE is an inner setting of it): without it the
    graph is faster and rounds less in bf16, but memory grows by about 1.4 MB with every new shape.
    """

    def __init__(self, graph: bytes, precision: str, passes: int = 1) -> None:
        core = _core(import_openvino())
        settings = {
            "INFERENCE_PRECISION_HINT": precision,  # by itself it takes bf16 where there is any
            "NUM_STREAMS": passes,
            "INFERENCE_NUM_THREADS": passes,
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = core.compile_model(core.read_model(graph), "CPU", settings)
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(passes):
            self._idle.put(self._compiled.create_infer_request())

    def run(self, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        """The output for these inputs."""
        request = self._idle.get()
        try:
            values: NDArray[Any] = request.infer(feeds, share_inputs=True)[0]
            return values
        finally:
            self._idle.put(request)

    def products(self) -> set[tuple[str, str]]:
        """What multiplies by weights, as the last call ran it: (number format, kernel)."""
        found = set()
        for node in self._compiled.get_runtime_model().get_ops():
            facts = node.get_rt_info()
            if facts["layerType"].astype(str) == "FullyConnected":
                names = ("runtimePrecision", "primitiveType")
                found.add(tuple(facts[name].astype(str) for name in names))
        return found
