"""Scoring by kernel.cpp, with all matrix products in int8 or bfloat16; CPU only, no calibration.

A score never depends on the batch that it was computed in, or on any text: int8 quantises
activations per token (codes.py). Norms, attention, activations and the sum over the vocabulary stay
in float32.
"""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from numpy.typing import NDArray

from asrprune.lm.device import default_threads
from asrprune.lm.engines.engine import Engine, EngineOptions, cpu_token_budget
from asrprune.lm.engines.fused.formats import FORMATS, rounded_model
from asrprune.lm.engines.fused.packed import Kernel, PackedModel, load_kernel
from asrprune.lm.engines.pytorch.engine import TorchEngine
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.trie import TrieBatch


class FusedEngine:
    """Calls ``kernel`` with the model in number format ``form``, one of FORMATS; each pass has one
    thread, so as many run at once."""

    device = "cpu"

    def __init__(self, kernel: Kernel, form: str, model: TransformerLM, passes: int) -> None:
        self.kernel = kernel
        self.form = form
        self.model = PackedModel(kernel, form, model)
        self.passes = passes
        self.note = kernel.note(form)

    def token_budget(self, deepest: int) -> int:
        return cpu_token_budget(self.passes)

    def log_probs(self, batch: TrieBatch) -> NDArray[np.float64]:
        tokens, positions, last = batch.tokens, batch.positions, batch.last
        out = np.empty(len(batch.targets))
        failed = self.kernel.function(self.form, "log_probs")(
            ctypes.byref(self.model.struct),
            tokens.ctypes.data,
            positions.ctypes.data,
            last.ctypes.data,
            int(batch.nodes.max(initial=-1)) + 1,  # behind it there is padding only
            batch.nodes.ctypes.data,
            len(batch.nodes),
            batch.sources.ctypes.data,
            batch.targets.ctypes.data,
            len(batch.targets),
            out.ctypes.data,
        )
        if failed:
            raise MemoryError(f"no memory for a pass of {tokens.size} places")
        return out


def open_fused(form: str, model: TransformerLM, options: EngineOptions) -> Engine:
    """The kernel, or torch with the same rounded values where it cannot be built.

    Raises ValueError for a weight that int8 cannot hold: one that is not finite.
    """
    kernel = load_kernel()
    if kernel is not None:
        return FusedEngine(kernel, form, model, options.threads or default_threads())
    rounded = rounded_model(model, FORMATS[form])
    return TorchEngine(rounded, torch.float32, options, "no kernel: torch, no faster")
