"""ENGINES: what computes the forward passes of LM scoring, one row a runtime and number format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Optional

import torch

from asrprune.core.tables import lookup
from asrprune.lm.engines.engine import Engine, EngineOptions, NodeModel
from asrprune.lm.engines.pytorch.engine import TorchEngine
from asrprune.lm.engines.pytorch.nodes import CachedModel
from asrprune.lm.model.transformer import TransformerLM
from asrprune.text.tokenizer import Tokenizer

Make = Callable[[TransformerLM, EngineOptions, Optional[Tokenizer]], Engine]
"""``make(model, options, tokenizer)``; the tokeniser reads a text to calibrate on."""

BF16_SLACK = 0.25
"""Nats by which a sentence's score in bfloat16 may depend on its batch, amply."""

ACCURACIES: Mapping[str, str] = {
    "float32": "rounding of float32: within 1e-3 nats of torch",
    "bf16": "products of bfloat16",
    "int8": "products of 8-bit integers",
}
"""Accuracy class -> what the scores are, from the most exact on."""

CHOICES: Mapping[str, str] = {"auto": "float32", "fastest-bf16": "bf16", "fastest": "int8"}
"""What stands for the fastest engine here -> the last accuracy class that it may be of."""


@dataclass(frozen=True)
class EngineRow:
    """An engine and what it can do.

    ``accuracy``: one of ACCURACIES. ``packages`` that must be installed. ``slow_start``: it is
    taken by its name only, since opening it takes as long as scoring much text. ``gpu``: it
    computes on a GPU too. ``calibrated``: it reads ``EngineOptions.calibration``.
    ``architectures`` that it computes, None for all. ``kept``: torch keeps keys and values of
    prefixes in this number format (lattice mode beam); None: it keeps none. ``nodes(model, engine,
    options)`` makes what computes tries node by node (early termination), and ``slack`` is by how
    many nats a score may then depend on its batch.
    """

    make: Make
    description: str
    accuracy: str
    packages: tuple[str, ...] = ()
    slow_start: bool = False
    gpu: bool = False
    calibrated: bool = False
    architectures: Optional[tuple[str, ...]] = None
    kept: Optional[torch.dtype] = None
    nodes: Optional[Callable[[TransformerLM, Engine, EngineOptions], NodeModel]] = None
    slack: float = 1e-3


def check_engine(name: str, options: EngineOptions) -> EngineRow:
    """The row ``name``. Raises ValueError for an unknown engine and for a device or a calibration
    text that is not for it: what can be said before a model is loaded."""
    row = lookup(ENGINES, name, "engine")
    if not row.gpu and options.device not in ("auto", "cpu"):
        raise ValueError(f"device is {options.device!r}; engine {name} expects auto or cpu")
    if options.calibration is not None and not row.calibrated:
        raise ValueError(f"calibration text is given, but engine {name} calibrates nothing")
    return row


def open_engine(
    name: str,
    model: TransformerLM,
    options: Optional[EngineOptions] = None,
    tokenizer: Optional[Tokenizer] = None,
) -> Engine:
    """The engine ``name`` for a model.

    Raises ValueError as ``check_engine`` does, and for an architecture that is not for it.
    """
    options = options or EngineOptions()
    row = check_engine(name, options)
    architecture = model.shape.architecture
    if row.architectures is not None and architecture not in row.architectures:
        able = [one for one, other in ENGINES.items() if other.architectures is None]
        known = ", ".join(row.architectures)
        raise ValueError(
            f"engine {name} computes {known}, but the LM is {architecture}; "
            f"expected one of {', '.join(able)}"
        )
    return row.make(model, options if row.gpu else replace(options, device="cpu"), tokenizer)


def _torch(dtype: torch.dtype) -> Make:
    def make(
        model: TransformerLM, options: EngineOptions, tokenizer: Optional[Tokenizer]
    ) -> Engine:
        return TorchEngine(model, dtype, options)

    return make


def _torch_compile(
    model: TransformerLM, options: EngineOptions, tokenizer: Optional[Tokenizer]
) -> Engine:
    from asrprune.lm.engines.pytorch.compiled import CompiledEngine

    return CompiledEngine(model, options)


def _fused(form: str) -> Make:
    def make(
        model: TransformerLM, options: EngineOptions, tokenizer: Optional[Tokenizer]
    ) -> Engine:
        from asrprune.lm.engines.fused.engine import open_fused

        return open_fused(form, model, options)

    return make


def _onnx(model: TransformerLM, options: EngineOptions, tokenizer: Optional[Tokenizer]) -> Engine:
    from asrprune.lm.engines.onnx_runtime.engine import OnnxEngine, float_graph

    return OnnxEngine(float_graph(model), options.threads)


def _onnx_int8(
    model: TransformerLM, options: EngineOptions, tokenizer: Optional[Tokenizer]
) -> Engine:
    from asrprune.lm.engines.onnx_runtime.calibration import int8_graph
    from asrprune.lm.engines.onnx_runtime.engine import OnnxEngine
    from asrprune.lm.engines.onnx_runtime.saturation import signed_is_exact

    graph = int8_graph(model, options, tokenizer, signed_is_exact())
    return OnnxEngine(graph, options.threads)


def _openvino(numbers: str) -> Make:
    def make(
        model: TransformerLM, options: EngineOptions, tokenizer: Optional[Tokenizer]
    ) -> Engine:
        from asrprune.lm.engines.openvino.engine import open_openvino

        return open_openvino(model, numbers, options, tokenizer)

    return make


def _sparse(model: TransformerLM, options: EngineOptions, tokenizer: Optional[Tokenizer]) -> Engine:
    from asrprune.lm.engines.sparse.matrices import sparsified

    copy, note = sparsified(model)
    return TorchEngine(copy, torch.float32, options, note)


def _torch_nodes(dtype: torch.dtype) -> Callable[..., NodeModel]:
    def nodes(model: TransformerLM, engine: Engine, options: EngineOptions) -> NodeModel:
        return CachedModel(model, dtype, options)

    return nodes


def _fused_nodes(form: str) -> Callable[..., NodeModel]:
    def nodes(model: TransformerLM, engine: Engine, options: EngineOptions) -> NodeModel:
        from asrprune.lm.engines.fused.engine import FusedEngine
        from asrprune.lm.engines.fused.nodes import CachedFused

        if not isinstance(engine, FusedEngine):
            raise ValueError(f"engine {form} stops early with its kernel only; expected torch here")
        return CachedFused(engine)

    return nodes


ENGINES: Mapping[str, EngineRow] = {
    "torch": EngineRow(
        _torch(torch.float32),
        "torch in float32: the reference, on CPU and GPU",
        "float32",
        gpu=True,
        kept=torch.float32,
        nodes=_torch_nodes(torch.float32),
    ),
    "torch-bf16": EngineRow(
        _torch(torch.bfloat16),
        "torch with bfloat16 weights and activations, sums in float32 and float64",
        "bf16",
        gpu=True,
        kept=torch.bfloat16,
        nodes=_torch_nodes(torch.bfloat16),
        slack=BF16_SLACK,
    ),
    "torch-compile": EngineRow(
        _torch_compile,
        "torch in float32, compiled at every start, which takes long; needs a C++ compiler",
        "float32",
        slow_start=True,
        gpu=True,
    ),
    "bf16": EngineRow(
        _fused("bf16"),
        "own kernel, all matrices in bfloat16, CPU only; changes scores less than int8 does",
        "bf16",
        nodes=_fused_nodes("bf16"),
    ),
    "int8": EngineRow(
        _fused("int8"),
        "own kernel, all matrices in int8, CPU only, no calibration; changes scores a little",
        "int8",
        architectures=("gpt2",),
        nodes=_fused_nodes("int8"),
    ),
    "onnx": EngineRow(
        _onnx, "ONNX Runtime in float32, CPU only", "float32", ("onnx", "onnxruntime")
    ),
    "onnx-int8": EngineRow(
        _onnx_int8,
        "ONNX Runtime in static int8 (all weight matrices), CPU only; changes scores a little",
        "int8",
        ("onnx", "onnxruntime"),
        slow_start=True,
        calibrated=True,
    ),
    "openvino": EngineRow(
        _openvino("f32"), "OpenVINO in float32, CPU only", "float32", ("onnx", "openvino")
    ),
    "openvino-bf16": EngineRow(
        _openvino("bf16"),
        "OpenVINO in bfloat16, CPU only; changes scores a little",
        "bf16",
        ("onnx", "openvino"),
    ),
    "openvino-int8": EngineRow(
        _openvino("int8"),
        "OpenVINO in static int8 (all weight matrices), the rest in bfloat16, CPU only; changes "
        "scores a little",
        "int8",
        ("onnx", "openvino"),
        slow_start=True,
        calibrated=True,
    ),
    "sparse": EngineRow(
        _sparse,
        "torch in float32 with an own kernel for matrices with enough zeros, CPU only",
        "float32",
    ),
}
"""name -> engine."""

KEEPING = tuple(name for name, row in ENGINES.items() if row.kept is not None)
"""Engines that keep keys and values of prefixes between forward passes."""

EARLY = tuple(name for name, row in ENGINES.items() if row.nodes is not None)
"""Engines that can stop early."""
