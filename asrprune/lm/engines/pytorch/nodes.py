"""Forward passes over parts of tries with stored keys and values: no node is computed twice."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrprune.lm.device import cpu_threads, resolve_device, without_autocast, without_denormals
from asrprune.lm.engines.engine import Bools, Chunk, EngineOptions, Ints, NodeBatch
from asrprune.lm.model.logprob import pair_log_probs
from asrprune.lm.model.transformer import KeyValues, TransformerLM
from asrprune.lm.trie import Forest

_NOWHERE = np.iinfo(np.int64).max  # as a node: an ancestor of none


class CachedModel:
    """A Transformer that computes nodes of a forest chunk by chunk and keeps keys and values.

    ``start`` takes a forest; ``compute`` may then be called with its nodes in any order in which
    parents come no later than their children.
    """

    def __init__(
        self, model: TransformerLM, dtype: torch.dtype, options: EngineOptions | None = None
    ) -> None:
        options = options or EngineOptions()
        self._device = resolve_device(options.device)
        self._threads = options.threads
        if next(model.parameters()).dtype != dtype:
            model = copy.deepcopy(model)
        self._model = model.to(device=self._device, dtype=dtype).eval()
        self._dtype = dtype
        shape = model.shape
        self._sizes = [(block.kv_heads, shape.head_dim) for block in shape.blocks]
        self._forest: Forest | None = None
        self._slots: Ints = np.zeros(0, np.int64)
        self._used = 0
        self._store: KeyValues = []

    @property
    def node_bytes(self) -> int:
        """Memory that the keys and values of one node take."""
        return sum(2 * heads * size for heads, size in self._sizes) * self._dtype.itemsize

    def start(self, forest: Forest) -> None:
        """Forget everything; the next nodes are of ``forest``."""
        self._forest = forest
        self._slots = np.full(len(forest), -1, np.int64)
        self._used = 0
        self._store = [
            (self._empty(len(forest), *size), self._empty(len(forest), *size))
            for size in self._sizes
        ]

    def _empty(self, *size: int) -> Tensor:
        return torch.empty(size, dtype=self._dtype, device=self._device)

    def batches(
        self, nodes: Ints, computed: Bools, token_budget: int, row_width: int
    ) -> Iterator[NodeBatch]:
        assert self._forest is not None, "start comes first"
        for pieces in _rounds(self._forest, nodes, row_width):
            for rows in _packed(pieces, token_budget):
                chunks = [
                    Chunk(
                        np.concatenate(row),
                        np.concatenate(
                            [_stored_ancestors(self._forest, computed, piece) for piece in row]
                        ),
                    )
                    for row in rows
                ]
                places = len(rows) * max(len(chunk.nodes) for chunk in chunks)
                together = np.concatenate([chunk.nodes for chunk in chunks])
                yield NodeBatch(together, places, tuple(chunks))

    @without_denormals()
    @torch.inference_mode()
    @without_autocast()
    def compute(self, batch: NodeBatch, sources: Ints, targets: Ints) -> NDArray[np.float64]:
        """One forward pass, a row a chunk."""
        assert self._forest is not None, "start comes first"
        forest, chunks = self._forest, batch.chunks
        nodes = _padded([chunk.nodes for chunk in chunks], -1)  # [B, T]
        past = _padded([chunk.past for chunk in chunks], _NOWHERE)  # [B, S]
        keys = np.concatenate((past, nodes), axis=1)
        known = (keys >= 0) & (keys < len(forest))
        last = np.where(known, forest.last[np.where(known, keys, 0)], -1)
        real = nodes >= 0
        inside = np.where(real, nodes, 0)
        with cpu_threads(self._threads):
            query = self._put(nodes)[:, :, None]
            # Padding (-1) sees padding, so that its softmax is over something.
            mask = (self._put(keys)[:, None] <= query) & (query <= self._put(last)[:, None])
            hidden, presents = self._model(
                self._put(np.where(real, forest.tokens[inside], 0)),
                self._put(np.where(real, forest.depth[inside], 0)),
                mask[:, None],
                self._gather(np.where(past < len(forest), past, -1)),
            )
            chosen = torch.from_numpy(real).to(self._device)
            self._keep(nodes[real], chosen, presents, past.shape[1])
            embedding = self._model.embedding
            values = pair_log_probs(
                embedding.features(hidden[chosen]),
                embedding.output_weight,
                self._put(sources),
                self._put(targets),
            )
            result: NDArray[np.float64] = values.cpu().numpy()
            return result

    def _put(self, values: Ints) -> Tensor:
        return torch.from_numpy(values).to(self._device)

    def _gather(self, past: Ints) -> KeyValues:
        """The stored keys and values of ``past`` [B, S], -1 for padding (whatever is in slot 0)."""
        slots = np.where(past >= 0, self._slots[past], 0)
        if not self._used:  # nothing is stored yet: padding must still be finite
            slots = slots[:, :0]
        where = self._put(slots)
        return [
            (key[where].transpose(1, 2), value[where].transpose(1, 2)) for key, value in self._store
        ]

    def _keep(self, nodes: Ints, chosen: Tensor, presents: KeyValues, stored: int) -> None:
        stop = self._used + len(nodes)
        self._slots[nodes] = np.arange(self._used, stop)
        for (key, value), (new_key, new_value) in zip(self._store, presents):
            key[self._used : stop] = new_key.transpose(1, 2)[:, stored:][chosen]
            value[self._used : stop] = new_value.transpose(1, 2)[:, stored:][chosen]
        self._used = stop


def _padded(rows: Sequence[Ints], fill: int) -> Ints:
    """The rows as one matrix, filled up on the right."""
    table = np.full((len(rows), max(map(len, rows))), fill, np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def _rounds(forest: Forest, nodes: Ints, width: int) -> Iterator[list[Ints]]:
    """``nodes`` (ascending) in pieces of one trie and at most ``width`` nodes each.

    A round's pieces are of different tries: a later piece of a trie may need an earlier one.
    """
    owner = np.searchsorted(forest.roots, nodes, side="right")
    cuts = np.flatnonzero(np.diff(owner)) + 1
    tries = [part for part in np.split(nodes, cuts) if len(part)]
    for start in range(0, max(map(len, tries), default=0), width):
        yield [part[start : start + width] for part in tries if len(part) > start]


def _packed(pieces: Sequence[Ints], budget: int) -> Iterator[list[list[Ints]]]:
    """Batches of rows of pieces; a batch has at most ``budget`` places, padding counted.

    A batch is as wide as its longest piece; shorter ones share a row, the longest that fits first.
    """
    left = sorted(pieces, key=len, reverse=True)
    while left:
        width = len(left[0])
        rows: list[list[Ints]] = []
        rooms: list[int] = []
        rest: list[Ints] = []
        for piece in left:
            fits = [number for number, room in enumerate(rooms) if room >= len(piece)]
            if fits:
                row = min(fits, key=rooms.__getitem__)
                rows[row].append(piece)
                rooms[row] -= len(piece)
            elif (len(rows) + 1) * width <= max(budget, width):
                rows.append([piece])
                rooms.append(width - len(piece))
            else:
                rest.append(piece)
        yield rows
        left = rest


def _stored_ancestors(forest: Forest, computed: Bools, nodes: Ints) -> Ints:
    """The computed proper ancestors of any of ``nodes`` (ascending, of one trie)."""
    root = int(forest.roots[np.searchsorted(forest.roots, nodes[0], side="right") - 1])
    span = np.arange(root, nodes[-1])
    first = np.searchsorted(nodes, span)
    inside = np.searchsorted(nodes, forest.last[span], side="right") > first
    result: Ints = span[inside & computed[span]]
    return result
