"""What computes the forward passes of LM scoring: one entry a runtime and number format."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Optional, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from asrprune.files import PathLike
from asrprune.lm.model.checkpoint import Checkpoint
from asrprune.lm.model.logprob import pair_log_probs
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.trie import TrieBatch


class Engine(Protocol):
    """Computes the wanted log-probabilities of a batch."""

    @property
    def device(self) -> str:
        """Where it computes: "cpu", "cuda:0 (name of the GPU)", ..."""

    @property
    def note(self) -> str:
        """What it chose by itself, for logs and tables; "" where it had no choice."""

    @property
    def passes(self) -> int:
        """How many calls of ``log_probs`` at once, from threads of their own, use it best."""

    def log_probs(self, batch: TrieBatch) -> NDArray[np.float64]:
        """ln p(target | path to the source node) for every pair of ``batch``, [P]."""


@dataclass(frozen=True)
class EngineOptions:
    """``threads``: CPU threads, None leaves the runtime's own choice. ``device``: "auto" takes
    the GPU if there is one, else "cpu", "cuda", "cuda:1", ... ``calibration``: text file or data
    folder on which static int8 measures its ranges; None takes text drawn from the model."""

    threads: Optional[int] = None
    device: str = "auto"
    calibration: Optional[PathLike] = None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}; expected >= 1")


class TorchEngine:
    """The reference: the checkpoint's own module, in the given number format."""

    passes = 1  # torch divides the work of a pass itself

    def __init__(
        self, model: TransformerLM, dtype: torch.dtype, options: EngineOptions, note: str = ""
    ) -> None:
        self.note = note
        self._device = resolve_device(options.device)
        self._threads = options.threads
        if next(model.parameters()).dtype != dtype:
            model = copy.deepcopy(model)
        self._model = model.to(device=self._device, dtype=dtype).eval()

    @property
    def device(self) -> str:
        if self._device.type == "cuda":
            return f"{self._device} ({torch.cuda.get_device_name(self._device)})"
        return str(self._device)

    @torch.inference_mode()
    def log_probs(self, batch: TrieBatch) -> NDArray[np.float64]:
        with cpu_threads(self._threads):
            keys = self._put(batch.keys)
            hidden, _ = self._model(
                self._put(batch.tokens),
                self._put(batch.positions),
                self._mask(batch, keys),
                keys=keys,
            )
            needed = hidden.flatten(0, 1)[self._put(batch.nodes)]  # [N, D]
            embedding = self._model.embedding
            values = pair_log_probs(
                embedding.features(needed),
                embedding.weight,
                self._put(batch.sources),
                self._put(batch.targets),
            )
            result: NDArray[np.float64] = values.cpu().numpy()
            return result

    def _put(self, values: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(values).to(self._device)

    def _mask(self, batch: TrieBatch, keys: torch.Tensor) -> torch.Tensor:
        query = torch.arange(batch.tokens.size, device=self._device)
        query = query.view(*batch.tokens.shape, 1)  # [C, Q, 1]
        last = self._put(batch.last).flatten()[keys][:, None]  # [C, 1, S]
        keys = keys[:, None]
        return ((keys >= 0) & (keys <= query) & (query <= last))[:, None]  # [C, 1, Q, S]


def resolve_device(name: str) -> torch.device:
    """The torch device called ``name``; "auto" is the GPU if there is one.

    Raises ValueError for a name that torch does not know or a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(
            f"unknown device {name!r}; expected auto, cpu, cuda, cuda:1, ..."
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is not there: {torch.cuda.device_count()} GPUs found")
    return device


def default_threads() -> int:
    """CPU threads where nobody said how many: OMP_NUM_THREADS, or one a core."""
    return int(torch.get_num_threads())


@contextlib.contextmanager
def cpu_threads(count: Optional[int]) -> Iterator[None]:
    """Inside the block torch computes with ``count`` CPU threads; None leaves them alone."""
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _torch_fp32(checkpoint: Checkpoint, options: EngineOptions) -> Engine:
    """torch in float32: the reference, on CPU and GPU"""
    return TorchEngine(checkpoint.model, torch.float32, options)


def _torch_bf16(checkpoint: Checkpoint, options: EngineOptions) -> Engine:
    """torch with bfloat16 weights and activations, sums in float32 and float64"""
    return TorchEngine(checkpoint.model, torch.bfloat16, options)


def _torch_compile(checkpoint: Checkpoint, options: EngineOptions) -> Engine:
    """torch in float32, compiled at every start, which takes long; needs a C++ compiler"""
    from asrprune.lm.engines.pytorch.compiled import CompiledEngine

    return CompiledEngine(checkpoint.model, options)


def _int8(checkpoint: Checkpoint, options: EngineOptions) -> Engine:
    """own kernel in int8 (all matrices), CPU only, no calibration; changes scores a little"""
    from asrprune.lm.engines.int8.engine import open_int8

    return open_int8(checkpoint.model, replace(_cpu_only(options), device="cpu"))


def _onnx(checkpoint: Checkpoint, options: EngineOptions) -> Engine:
    """ONNX Runtime in float32, CPU only"""
    from asrprune.lm.engines.onnx_runtime.engine import OnnxEngine

    return OnnxEngine(onnx_graph(checkpoint, options, int8=False), _cpu_only(options).threads)


def _onnx_int8(checkpoint: Checkpoint, options: EngineOptions) -> Engine:
    """ONNX Runtime in static int8 (all weight matrices), CPU only; changes scores a little"""
    from asrprune.lm.engines.onnx_runtime.engine import OnnxEngine

    return OnnxEngine(onnx_graph(checkpoint, options, int8=True), _cpu_only(options).threads)


def _sparse(checkpoint: Checkpoint, options: EngineOptions) -> Engine:
    """torch in float32 with an own kernel for matrices with enough zeros, CPU only"""
    from asrprune.lm.engines.sparse.matrices import sparsified

    model, note = sparsified(checkpoint.model)
    return TorchEngine(model, torch.float32, replace(_cpu_only(options), device="cpu"), note)


def onnx_graph(checkpoint: Checkpoint, options: EngineOptions, int8: bool) -> bytes:
    """The model as a serialised ONNX graph for this machine; int8 is calibrated as ``options``
    say.

    Raises MissingPackage without onnx and onnxruntime.
    """
    from asrprune.lm.engines.onnx_runtime.calibration import (
        drawn_sentences,
        measure_ranges,
        read_sentences,
    )
    from asrprune.lm.engines.onnx_runtime.graph import build_graph
    from asrprune.lm.engines.onnx_runtime.saturation import signed_is_exact
    from asrprune.text.tokenizer import Tokenizer

    model = checkpoint.model
    if not int8:
        return bytes(build_graph(model).SerializeToString())
    with cpu_threads(options.threads):
        if options.calibration is None:
            sentences = drawn_sentences(model)
        else:
            tokenizer = Tokenizer(checkpoint.tokenizer_path)
            limit = model.shape.max_positions
            sentences = read_sentences(options.calibration, tokenizer, limit)
        ranges = measure_ranges(model, sentences, options.threads)
    graph = build_graph(model, ranges, signed=signed_is_exact())
    return bytes(graph.SerializeToString())


def _cpu_only(options: EngineOptions) -> EngineOptions:
    if options.device not in ("auto", "cpu"):
        raise ValueError(f"device is {options.device!r}; this engine expects auto or cpu")
    return options


ENGINES: Mapping[str, Callable[[Checkpoint, EngineOptions], Engine]] = {
    "torch": _torch_fp32,
    "torch-bf16": _torch_bf16,
    "torch-compile": _torch_compile,
    "int8": _int8,
    "onnx": _onnx,
    "onnx-int8": _onnx_int8,
    "sparse": _sparse,
}
"""name -> how to make the engine for a checkpoint."""


def choose_engine(name: str, device: str = "auto") -> tuple[str, str]:
    """The engine that ``name`` stands for, and why: only "auto" is not itself.

    "auto" never changes scores beyond rounding in float32: torch on a GPU; on a CPU ONNX Runtime
    where it is installed, since it was measured to be the faster of the two, else torch.
    """
    if name != "auto":
        return name, "asked for"
    found = resolve_device(device)
    if found.type != "cpu":
        return "torch", f"auto: the device is {found.type}"
    missing = [p for p in ("onnx", "onnxruntime") if importlib.util.find_spec(p) is None]
    if missing:
        return "torch", f"auto: {' and '.join(missing)} not installed"
    return "onnx", "auto: the fastest on a CPU that keeps float32"
