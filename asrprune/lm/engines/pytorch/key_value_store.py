"""Keys, values and output features of a bounded number of nodes, and the forward pass over more."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from asrprune.lm.device import resolve_device, without_autocast, without_denormals
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.model.logprob import log_sum_exp, pair_logits
from asrprune.lm.model.transformer import KeyValues, TransformerLM


@dataclass(frozen=True)
class Row:
    """New nodes of an utterance, parents first: names, tokens, depths, and each one's path from
    the root to itself; ``past`` are stored nodes, all that the paths need beside the new ones."""

    nodes: list[int]
    tokens: list[int]
    depths: list[int]
    paths: list[list[int]]
    past: list[int]


class KeyValueStore:
    """A Transformer and what it computed of the nodes that have a slot.

    ``cache_bytes`` bounds the memory of all slots together. Memory is touched as slots are used.
    ``pairs``: what is asked for are ``log_probs``, else ``next_log_probs``.
    """

    def __init__(
        self,
        model: TransformerLM,
        dtype: torch.dtype,
        options: EngineOptions | None,
        cache_bytes: int,
        pairs: bool = True,
    ) -> None:
        self._pairs = pairs
        self.device = resolve_device((options or EngineOptions()).device)
        if next(model.parameters()).dtype != dtype:
            model = copy.deepcopy(model)
        self._model = model.to(device=self.device, dtype=dtype).eval()
        shape = model.shape
        sizes = [(block.kv_heads, shape.head_dim) for block in shape.blocks]
        width = model.embedding.output_weight.shape[1]
        numbers = width + sum(2 * heads * size for heads, size in sizes)
        self.slot_bytes = numbers * dtype.itemsize + 8
        self.slots = cache_bytes // self.slot_bytes
        self._keys = [self._empty(dtype, self.slots, *size) for size in sizes]
        self._values = [self._empty(dtype, self.slots, *size) for size in sizes]
        self._features = self._empty(dtype, self.slots, width)
        self._normaliser = self._empty(torch.float64, self.slots)
        self._slot: dict[int, int] = {}  # in the order in which they were stored
        self._free = list(range(self.slots - 1, -1, -1))

    def __contains__(self, node: int) -> bool:
        return node in self._slot

    def release(self, node: int) -> None:
        """Give up the node's slot, if it has one."""
        slot = self._slot.pop(node, None)
        if slot is not None:
            self._free.append(slot)

    def make_room(self, count: int, needed: set[int]) -> None:
        """Free ``count`` slots, the oldest first, but none of ``needed``."""
        if len(self._free) < count:
            victims = [node for node in self._slot if node not in needed]
            for node in victims[: count - len(self._free)]:
                self.release(node)

    @without_denormals()
    @torch.inference_mode()
    @without_autocast()
    def compute(self, rows: Sequence[Row]) -> None:
        """Run the new nodes of ``rows`` in one forward pass and store them."""
        rows = _filled_up(rows)
        width = max(len(row.nodes) for row in rows)
        stored = max(len(row.past) for row in rows)
        tokens = np.zeros((len(rows), width), np.int64)  # [B, T]
        depths = np.zeros_like(tokens)
        filler = next(iter(self._slot.values()), 0)  # padding is masked, but must be finite
        past = np.full((len(rows), stored), filler, np.int64)  # [B, S]
        mask = np.zeros((len(rows), width, stored + width), bool)  # [B, T, S + T]
        for number, row in enumerate(rows):
            tokens[number, : len(row.nodes)] = row.tokens
            depths[number, : len(row.nodes)] = row.depths
            past[number, : len(row.past)] = [self._slot[node] for node in row.past]
            column = {node: place for place, node in enumerate(row.past)}
            column.update((node, stored + place) for place, node in enumerate(row.nodes))
            for place, path in enumerate(row.paths):
                mask[number, place, [column[node] for node in path]] = True
            for place in range(len(row.nodes), width):  # padding sees itself
                mask[number, place, stored + place] = True
        hidden, presents = self._model(
            self._put(tokens), self._put(depths), self._put(mask)[:, None], self._gather(past)
        )
        real = np.arange(width) < np.array([len(row.nodes) for row in rows])[:, None]
        self._keep([node for row in rows for node in row.nodes], real, hidden, presents, stored)

    @torch.inference_mode()
    @without_autocast()
    def log_probs(self, nodes: Sequence[int], targets: Sequence[int]) -> NDArray[np.float64]:
        """ln p(target | path to the node) of every pair, [P] both; the nodes are stored."""
        slots = self._put(np.array([self._slot[node] for node in nodes], np.int64))
        wanted = self._put(np.array(targets, np.int64))
        logits = pair_logits(self._features, self._model.embedding.output_weight, slots, wanted)
        result: NDArray[np.float64] = (logits.double() - self._normaliser[slots]).cpu().numpy()
        return result

    @torch.inference_mode()
    @without_autocast()
    def next_log_probs(self, nodes: Sequence[int]) -> Tensor:
        """ln p of every token behind each node, [N, V] float32; the nodes are stored."""
        slots = self._put(np.array([self._slot[node] for node in nodes], np.int64))
        logits = functional.linear(self._features[slots], self._model.embedding.output_weight)
        return logits.float().log_softmax(-1)

    def _keep(
        self,
        nodes: Sequence[int],
        real: NDArray[np.bool_],
        hidden: Tensor,
        presents: KeyValues,
        stored: int,
    ) -> None:
        chosen = self._put(real)
        slots = [self._free.pop() for _ in nodes]
        self._slot.update(zip(nodes, slots))
        where = self._put(np.array(slots, np.int64))
        embedding = self._model.embedding
        features = embedding.features(hidden[chosen])  # [N, D]
        self._features[where] = features
        if self._pairs:
            self._normaliser[where] = log_sum_exp(features, embedding.output_weight).double()
        for keys, values, (key, value) in zip(self._keys, self._values, presents):
            keys[where] = key.transpose(1, 2)[:, stored:][chosen]
            values[where] = value.transpose(1, 2)[:, stored:][chosen]

    def _gather(self, past: NDArray[np.int64]) -> KeyValues:
        """Keys and values of the slots ``past`` [B, S], masked where they are padding."""
        where = self._put(past)
        return [
            (keys[where].transpose(1, 2), values[where].transpose(1, 2))
            for keys, values in zip(self._keys, self._values)
        ]

    def _put(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    def _empty(self, dtype: torch.dtype, *size: int) -> Tensor:
        return torch.empty(size, dtype=dtype, device=self.device)


def _filled_up(rows: Sequence[Row]) -> list[Row]:
    """Rows as long as the longest, as far as whole rows fit behind each other: utterances differ
    much in their new nodes, and padding costs a forward pass what nodes cost. What stands in one
    row is kept apart by the mask, which knows paths only."""
    width = max(len(row.nodes) for row in rows)
    filled: list[Row] = []
    for row in sorted(rows, key=lambda one: -len(one.nodes)):
        fitting = [one for one in filled if len(one.nodes) + len(row.nodes) <= width]
        if not fitting:
            filled.append(Row([], [], [], [], []))
        into = max(fitting, key=lambda one: len(one.nodes), default=filled[-1])
        for field in fields(Row):
            getattr(into, field.name).extend(getattr(row, field.name))
    return filled
