"""EXPORTERS: the partners that an LM can be written for."""

from __future__ import annotations

from collections.abc import Mapping

from asrprune.exchange.exporters.exporter import Exporter
from asrprune.exchange.exporters.gguf import GGUF
from asrprune.exchange.exporters.hugging_face import HUGGING_FACE
from asrprune.exchange.exporters.plain_onnx import PLAIN_ONNX
from asrprune.exchange.exporters.sherpa_onnx import SHERPA_ONNX
from asrprune.exchange.exporters.torch_export import TORCH_EXPORT

EXPORTERS: Mapping[str, Exporter] = {
    "onnx": PLAIN_ONNX,
    "sherpa-onnx": SHERPA_ONNX,
    "torch-export": TORCH_EXPORT,
    "hugging-face": HUGGING_FACE,
    "gguf": GGUF,
}
"""Name -> exporter; one file each."""
