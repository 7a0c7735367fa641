"""What an engine is: it computes the forward passes of LM scoring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional, Protocol

import numpy as np
from numpy.typing import NDArray

from asrprune.files import PathLike
from asrprune.lm.trie import Forest, TrieBatch

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


TOKEN_BUDGET = 2048
"""On a CPU more makes no pass faster; with several threads half of it for each is as good."""

GPU_TOKEN_BUDGET = 1 << 16
"""On a GPU a pass has the starts of its kernels, some milliseconds, whatever it computes: passes
of 2,048 nodes are 9 times as slow, of twice as many 1.1 times as fast."""


def cpu_token_budget(passes: int) -> int:
    """``Engine.token_budget`` of a CPU that does so many passes at once."""
    return max(TOKEN_BUDGET, passes * TOKEN_BUDGET // 2)


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

    def token_budget(self, deepest: int) -> int:
        """Trie nodes in the passes of one moment that it computes fastest, of tries with paths of
        at most ``deepest`` nodes, before they are padded to whole rows."""

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


@dataclass(frozen=True)
class Chunk:
    """Nodes of one trie that are computed at once, ascending, and the stored ancestors that they
    attend to (every proper ancestor is in one of the two)."""

    nodes: Ints
    past: Ints


@dataclass(frozen=True)
class NodeBatch:
    """Nodes that are computed in one forward pass: ``nodes``, those of all chunks laid end to end,
    in ``places`` with padding. Chunks are for models that compute in rows."""

    nodes: Ints
    places: int
    chunks: tuple[Chunk, ...] = ()


class NodeModel(Protocol):
    """Computes nodes of a forest, in any order in which parents come no later than their children,
    and keeps what it needs to go on."""

    @property
    def node_bytes(self) -> int:
        """Memory that the keys and values of one node take."""

    def start(self, forest: Forest) -> None:
        """Forget everything; the next nodes are of ``forest``."""

    def batches(
        self, nodes: Ints, computed: Bools, token_budget: int, row_width: int
    ) -> Iterator[NodeBatch]:
        """``nodes`` (ascending) in batches of at most ``token_budget`` places; each is to be
        computed, and ``computed`` [nodes of the forest] to say so, before the next is taken."""

    def compute(self, batch: NodeBatch, sources: Ints, targets: Ints) -> NDArray[np.float64]:
        """ln p(target | path to the node) for every pair, [P]; ``sources`` [P], ascending, index
        the batch's nodes."""
