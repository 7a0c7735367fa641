"""A session of ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Optional

from asrprune.errors import MissingPackage

if TYPE_CHECKING:
    import onnxruntime


def import_onnxruntime() -> Any:
    """The package onnxruntime, kept from reporting its use. Raises MissingPackage without it.

    ``import onnxruntime`` (1.32) writes an id of this machine to ~/.cache/Microsoft and reports to
    Microsoft, unless ORT_DISABLE_TELEMETRY says not to. What a user has set that to stays.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError:
        raise MissingPackage("onnxruntime", "export") from None
    return onnxruntime


def open_session(
    graph: bytes, threads: Optional[int] = None, exact: bool = False
) -> onnxruntime.InferenceSession:
    """A session on the CPU. Raises MissingPackage without the package onnxruntime.

    Waiting threads sleep instead of spinning, so that they take no core from others. ``exact``
    multiplies weights of 8 bits in float32, where the runtime by itself rounds what they are
    multiplied with.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # every batch has its own shape
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if exact:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    providers = ["CPUExecutionProvider"]
    session: onnxruntime.InferenceSession = runtime.InferenceSession(graph, options, providers)
    return session
