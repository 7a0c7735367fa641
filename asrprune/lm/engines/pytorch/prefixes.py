"""Prefixes of a Transformer with kept keys and values, in bounded memory.

A prefix is the node of its last token in a tree of tokens. Asking for words behind a prefix runs
the nodes that were never run: the prefix's own last token and the inner tokens of the words. Their
keys, values and output features stay in a store with a fixed number of slots. When it is full,
nodes that the batch at hand does not need give up their slots, and are run again if they are asked
for later: memory is bounded, and what is computed does not depend on the bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from asrprune.lm.device import cpu_threads
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.key_value_store import KeyValueStore
from asrprune.lm.engines.pytorch.node_runner import NodeRunner
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.protocol import SENTENCE_END, UnscorableError
from asrprune.text.coverage import Spelling
from asrprune.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class PrefixOptions:
    """``cache_bytes``: most memory for keys, values and features. ``token_budget``: most new nodes
    in one forward pass; ``row_width``: most of them of one utterance. ``over_long``: whether a word
    that leads beyond the model's positions is an "error" or "minus-inf", which drops its path."""

    cache_bytes: int = 256 * 2**20
    token_budget: int = 1024
    row_width: int = 256
    over_long: str = "error"

    def __post_init__(self) -> None:
        if self.over_long not in ("error", "minus-inf"):
            found = f"over_long is {self.over_long!r}"
            raise ValueError(f"{found}; a search has error and minus-inf, and no windows")
        for name in ("cache_bytes", "token_budget", "row_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected >= 1")


class CachedPrefixes:
    """A PrefixLM of a Transformer.

    A prefix with more tokens than the model has positions cannot be made: words that would lead
    to one are an error, or have -inf (``over_long``). ``tokens`` counts nodes run, those run again
    included; ``again`` the latter.
    Raises ValueError when ``cache_bytes`` cannot hold one path of the longest length.
    """

    def __init__(
        self,
        model: TransformerLM,
        tokenizer: Tokenizer,
        dtype: torch.dtype = torch.float32,
        engine: EngineOptions | None = None,
        options: PrefixOptions | None = None,
        name: str = "transformer",
    ) -> None:
        self._options = options or PrefixOptions()
        self._tokenizer = tokenizer
        self.spelling: Spelling = tokenizer
        self._threads = (engine or EngineOptions()).threads
        self._limit = model.shape.max_positions - 1
        self._store = KeyValueStore(model, dtype, engine, self._options.cache_bytes)
        if self._store.slots <= self._limit:
            needed = self._store.slot_bytes * (self._limit + 1)
            raise ValueError(
                f"cache_bytes is {self._options.cache_bytes}; expected at least {needed}, "
                f"one path of {self._limit + 1} tokens"
            )
        self._name = name
        self._begin = tokenizer.begin
        self._context = len(tokenizer.prompt)
        self._closing = (*tokenizer.tail, tokenizer.end)  # what ends a sentence
        self._nodes: dict[int, _Node] = {}
        self._made = 0
        self._runner = NodeRunner(
            self._store,
            lambda number: self._nodes[number],
            self._path,
            self._options.token_budget,
            self._options.row_width,
        )
        self.tokens = 0
        self.again = 0

    @property
    def name(self) -> str:
        return self._name

    def root(self, group: int) -> int:
        root = self._add(_Node(self._begin, -1, 0, group))
        for token in self._tokenizer.prompt:
            root = self._follow(root, token)
        return root

    def child(self, prefix: int, word: str) -> int:
        for token in self._ids(prefix, word):
            prefix = self._follow(prefix, token)
        return prefix

    def score(self, pairs: Sequence[tuple[int, str]]) -> NDArray[np.float64]:
        self._tokenizer.learn(word for _, word in pairs if word != SENTENCE_END)
        result = np.zeros(len(pairs))
        wanted: dict[int, dict[int, list[int]]] = {}  # node -> token -> pairs
        for number, (prefix, word) in enumerate(pairs):
            at_end = word == SENTENCE_END
            ids = self._closing if at_end else self._ids(prefix, word)
            if self._nodes[prefix].depth + len(ids) - at_end > self._limit:
                if self._options.over_long == "error":
                    node = self._nodes[prefix]
                    problem = (
                        f"and more tokens than {self._limit}, the most that the model takes, lie "
                        "on a path (--over-long minus-inf drops such paths; --mode nbest, cover "
                        "and exact have --over-long window)"
                    )
                    raise UnscorableError((node.group, 0), word, problem)
                result[number] = -np.inf
                continue
            for place, token in enumerate(ids):
                wanted.setdefault(prefix, {}).setdefault(token, []).append(number)
                if place < len(ids) - 1:
                    prefix = self._follow(prefix, token)
        with cpu_threads(self._threads):
            for ready in self._runner.ready(sorted(wanted)):
                self._collect(ready, wanted, result)
        self.tokens, self.again = self._runner.tokens, self._runner.again
        return result

    def _ids(self, prefix: int, word: str) -> tuple[int, ...]:
        return self._tokenizer.encode_word(word, first=self._nodes[prefix].depth == self._context)

    def keep(self, prefixes: Iterable[int]) -> None:
        kept: set[int] = set()
        for prefix in prefixes:
            while prefix >= 0 and prefix not in kept:
                kept.add(prefix)
                prefix = self._nodes[prefix].parent
        for number, node in self._nodes.items():
            if number not in kept:
                self._store.release(number)
                if node.parent in kept:
                    del self._nodes[node.parent].children[node.token]
        self._nodes = {number: self._nodes[number] for number in sorted(kept)}

    def _add(self, node: _Node) -> int:
        self._made += 1
        self._nodes[self._made] = node
        return self._made

    def _follow(self, number: int, token: int) -> int:
        node = self._nodes[number]
        if token not in node.children:
            node.children[token] = self._add(_Node(token, number, node.depth + 1, node.group))
        return node.children[token]

    def _path(self, number: int) -> list[int]:
        """The node and its ancestors, root first."""
        path = []
        while number >= 0:
            path.append(number)
            number = self._nodes[number].parent
        return path[::-1]

    def _collect(
        self,
        ready: Sequence[int],
        wanted: dict[int, dict[int, list[int]]],
        result: NDArray[np.float64],
    ) -> None:
        triples = [(node, token, pairs) for node in ready for token, pairs in wanted[node].items()]
        values = self._store.log_probs([one[0] for one in triples], [one[1] for one in triples])
        for (_, _, pairs), value in zip(triples, values.tolist()):
            for pair in pairs:
                result[pair] += value


class _Node:
    """A token behind its parent's path; ``ran``: it has been computed at some time."""

    __slots__ = ("children", "depth", "group", "parent", "ran", "token")

    def __init__(self, token: int, parent: int, depth: int, group: int) -> None:
        self.token, self.parent, self.depth, self.group = token, parent, depth, group
        self.children: dict[int, int] = {}
        self.ran = False
