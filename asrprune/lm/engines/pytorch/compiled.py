"""The reference's forward pass as torch compiles it: at every start, for the model at hand."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import time
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from asrprune.lm.engines.cache import private_cache, private_temporary
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.engine import TorchEngine
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.trie import QUERIES, TrieBatch

log = logging.getLogger(__name__)


class CompiledEngine:
    """A TorchEngine in float32 whose model went through ``torch.compile`` with free batch shapes.

    It is compiled when it is made, so that what cannot be compiled here shows at once. torch takes
    a size of 1 for a constant and would compile again for it: a batch of one row is padded to 2.

    Raises ValueError, with torch's own reason, where the model cannot be compiled.
    """

    note = ""
    passes = 1

    def __init__(self, model: TransformerLM, options: EngineOptions) -> None:
        if not hasattr(torch, "compile"):
            raise ValueError(f"torch.compile needs torch 2; found torch {torch.__version__}")
        start = time.perf_counter()
        try:
            _keep_code_private()
            compiled = cast(TransformerLM, torch.compile(model, dynamic=True))
            self._engine = TorchEngine(compiled, torch.float32, options)
            self._engine.log_probs(_smallest())
        except (RuntimeError, PermissionError) as problem:
            raise ValueError(f"torch cannot compile the model: {_reason(problem)}") from problem
        log.info("torch compiled the model in %.1f s", time.perf_counter() - start)

    @property
    def device(self) -> str:
        return self._engine.device

    def token_budget(self, deepest: int) -> int:
        return self._engine.token_budget(deepest)

    def log_probs(self, batch: TrieBatch) -> NDArray[np.float64]:
        return self._engine.log_probs(with_two_rows(batch))


def with_two_rows(batch: TrieBatch) -> TrieBatch:
    """The same batch with at least 2 rows; what is added is padding."""
    rows, queries = batch.tokens.shape
    if rows > 1:
        return batch
    added = ((0, 1), (0, 0))
    places = np.arange(queries, 2 * queries)[None]
    keys = np.pad(batch.keys, added, constant_values=-1)
    keys[1, -queries:] = places
    return replace(
        batch,
        tokens=np.pad(batch.tokens, added),
        positions=np.pad(batch.positions, added),
        last=np.concatenate((batch.last, places)),
        keys=keys,
    )


def _keep_code_private() -> None:
    """torch keeps what it compiles, to load it again, under a name in ``/tmp`` that anybody could
    have taken first. It is told of a folder that nobody else can write."""
    if "TORCHINDUCTOR_CACHE_DIR" in os.environ:
        return
    kept = private_cache()
    if kept is None:
        passing = contextlib.ExitStack()
        folder = passing.enter_context(private_temporary())
        atexit.register(passing.close)
    else:
        folder = kept / "torch"
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def _smallest() -> TrieBatch:
    """One question about padding; no two sizes are equal: torch takes equal ones for the same."""
    zeros, zero = np.zeros((2, QUERIES), np.int64), np.zeros(1, np.int64)
    places = np.arange(zeros.size).reshape(zeros.shape)
    keys = np.pad(places, ((0, 0), (1, 0)), constant_values=-1)
    return TrieBatch(zeros, zeros, places, keys, zero, zero, zero)


def _reason(problem: Exception) -> str:
    """The first line of torch's message, and the next one if it only announces that."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    count = 2 if lines and lines[0].endswith(":") else 1
    return " ".join(lines[:count]) or type(problem).__name__
