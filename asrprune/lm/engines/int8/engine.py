"""Scoring with all matrix products in int8 on the CPU, by kernel.cpp; no calibration.

A score never depends on the batch that it was computed in, or on any text: activations are
quantised per token (codes.py). Layer norms, attention, GELU and the sum over the vocabulary
stay in float32.
"""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from numpy.typing import NDArray

from asrprune.lm.device import default_threads
from asrprune.lm.engines.engine import Engine, EngineOptions
from asrprune.lm.engines.int8.codes import rounded_model
from asrprune.lm.engines.int8.packed import PackedModel, load_kernel
from asrprune.lm.engines.pytorch.engine import TorchEngine
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.trie import TrieBatch


class Int8Engine:
    """Calls the kernel ``library``; each pass has one thread, so as many run at once."""

    note = ""
    device = "cpu"

    def __init__(self, library: ctypes.CDLL, model: TransformerLM, passes: int) -> None:
        self.library = library
        self.model = PackedModel(model)
        self.passes = passes

    def log_probs(self, batch: TrieBatch) -> NDArray[np.float64]:
        tokens, positions, last = batch.tokens, batch.positions, batch.last
        out = np.empty(len(batch.targets))
        failed = self.library.asrprune_int8_log_probs(
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


def open_int8(model: TransformerLM, options: EngineOptions) -> Engine:
    """The kernel, or torch with the same quantised values where it cannot be built.

    Raises ValueError for a weight that is not finite, an output layer that is not tied, and key and
    value heads that query heads share.
    """
    if not model.embedding.tied or any(block.groups is not None for block in model.shape.blocks):
        expected = "a tied output layer, and a key and value head for each query head"
        raise ValueError(f"engine int8 computes {expected}; expected torch or onnx for this LM")
    library = load_kernel()
    if library is not None:
        return Int8Engine(library, model, options.threads or default_threads())
    return TorchEngine(rounded_model(model), torch.float32, options, "no kernel: torch, no faster")
