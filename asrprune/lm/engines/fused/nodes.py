"""The kernel with keys and values that stay between passes: no node is computed twice."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.lm.engines.engine import Bools, Ints, NodeBatch
from asrprune.lm.engines.fused.engine import FusedEngine
from asrprune.lm.engines.workers import Workers
from asrprune.lm.trie import Forest


class CachedFused:
    """A NodeModel: its scores are those of ``engine`` to the last bit, whatever the batches.

    Tries are divided among as many threads as the engine has.
    """

    def __init__(self, engine: FusedEngine) -> None:
        self._more = engine.kernel.function(engine.form, "more")
        self._model = engine.model
        self._passes = engine.passes
        self._widths = engine.model.kept_widths
        self._workers = Workers()
        self._forest: Optional[Forest] = None
        self._store: list[NDArray[np.float32]] = []

    @property
    def node_bytes(self) -> int:
        return 8 * sum(self._widths)

    def start(self, forest: Forest) -> None:
        self._forest = forest
        self._store = [
            np.empty((2, len(forest), width), np.float32) for width in self._widths
        ]  # keys, values
        blocks = len(self._store)
        self._keys = (ctypes.c_void_p * blocks)(*(both[0].ctypes.data for both in self._store))
        self._values = (ctypes.c_void_p * blocks)(*(both[1].ctypes.data for both in self._store))

    def batches(
        self, nodes: Ints, computed: Bools, token_budget: int, row_width: int
    ) -> Iterator[NodeBatch]:
        for start in range(0, len(nodes), token_budget):
            here = nodes[start : start + token_budget]
            yield NodeBatch(here, len(here))

    def compute(self, batch: NodeBatch, sources: Ints, targets: Ints) -> NDArray[np.float64]:
        parts = self._parts(batch.nodes)
        out = np.empty(len(targets))

        def run(part: tuple[int, int]) -> None:
            first, stop = part
            low, high = np.searchsorted(sources, part)
            mine = np.ascontiguousarray(sources[low:high] - first)
            self._run(batch.nodes[first:stop], mine, targets[low:high], out[low:high])

        self._workers.map(1 if len(parts) == 1 else self._passes, run, parts)
        return out

    def _parts(self, nodes: Ints) -> Sequence[tuple[int, int]]:
        """Ranges of ``nodes``, one a thread, that no trie is divided by."""
        assert self._forest is not None, "start comes first"
        owner = np.searchsorted(self._forest.roots, nodes, side="right")
        between = np.concatenate(([0], np.flatnonzero(np.diff(owner)) + 1, [len(nodes)]))
        even = np.linspace(0, len(nodes), self._passes + 1)
        cuts = np.unique(between[np.abs(between[:, None] - even).argmin(axis=0)]).tolist()
        return list(zip(cuts[:-1], cuts[1:]))

    def _run(self, nodes: Ints, sources: Ints, targets: Ints, out: NDArray[np.float64]) -> None:
        assert self._forest is not None, "start comes first"
        tokens, depths = self._forest.tokens[nodes], self._forest.depth[nodes]
        failed = self._more(
            ctypes.byref(self._model.struct),
            nodes.ctypes.data,
            tokens.ctypes.data,
            depths.ctypes.data,
            len(nodes),
            self._forest.parent.ctypes.data,
            self._keys,
            self._values,
            sources.ctypes.data,
            targets.ctypes.data,
            len(targets),
            out.ctypes.data,
        )
        if failed:
            raise MemoryError(f"no memory for a pass of {len(nodes)} places")
