"""A Transformer LM for searches of other toolkits: ln P of all tokens behind states of hypotheses.

A search holds states and gives back what it has chosen; nothing is told when it drops one. So a
state is a token with a link to the state before it, all states with the same tokens are one, and
its keys and values go when the last link to it goes. They stand in the bounded store of the
lattice modes, which computes again what it had to give up: memory is bounded by ``cache_bytes``
and the states themselves, and no score depends on it.

    lm = open_incremental("exp/lm")
    states = lm.start(2)                                # behind <s>, of two utterances
    scores = lm.next_scores(states)                     # [2, V] ln P
    scores, states = lm.score_next([5, 7], states)      # ln P behind one token more
    scores, states = lm.score_next([9, 9, 4], lm.select(states, [0, 0, 1]))
    scores[:, lm.end]                                   # what a sentence that ends here gets
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrprune.errors import InputError
from asrprune.exchange.adapters.tokens import check_same_tokens, ids_by_name
from asrprune.files import PathLike
from asrprune.lm.device import cpu_threads
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.key_value_store import KeyValueStore
from asrprune.lm.engines.pytorch.node_runner import NodeRunner
from asrprune.lm.engines.pytorch.prefixes import PrefixOptions
from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.open import short_name
from asrprune.lm.protocol import UnscorableError
from asrprune.text.form import TextOptions
from asrprune.text.tokenizer import Tokenizer


class State:
    """The tokens of a hypothesis up to ``token``; made by ``start`` and ``extend`` alone.

    States are never changed, so copies of one are the state itself. ``depth``: tokens before this
    one, ``<s>`` and prompt counted. ``dropped``: where its LM learns that nobody holds it any more.
    """

    __slots__ = ("__weakref__", "depth", "dropped", "group", "number", "parent", "ran", "token")

    def __init__(
        self, number: int, token: int, parent: State | None, group: int, dropped: deque[int]
    ) -> None:
        self.number, self.token, self.parent, self.group = number, token, parent, group
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.ran = False
        self.dropped = dropped

    def __del__(self) -> None:
        self.dropped.append(self.number)  # at any moment: the store is told at the next call

    def __copy__(self) -> State:
        return self

    def __deepcopy__(self, memo: object) -> State:
        return self


class IncrementalLM:
    """Scores behind states, as the LM's sentences are scored: the sum of the scores of a sentence's
    tokens and of ``end`` behind them is what ``score_lists`` gives, to 1e-4 nats in float32.

    ``begin``, ``end``: ids of the sentence marks. A prompt that an imported LM has stands behind
    ``begin`` from the start on. What it wants before ``end`` (a full stop) is scored with ``end``:
    the column ``end`` of all scores is ln P of both, so such rows do not add up to 1.

    A sentence has at most ``max_tokens`` tokens. A longer one is an UnscorableError, or with
    ``over_long="minus-inf"`` of the options every token that leads there has -inf, and so has all
    that follows. Rows are float32 on ``device``; float64 where tokens are added up.

    Not for several threads at once. Raises ValueError for ids that are none, states of another LM,
    and ``cache_bytes`` that cannot hold one path; InputError for an LM whose scores are NaN.
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
        options = options or PrefixOptions()
        self.tokenizer, self.name = tokenizer, name
        self.begin, self.end = tokenizer.begin, tokenizer.end
        self.vocab_size = model.embedding.vocab_size
        self._head = (tokenizer.begin, *tokenizer.prompt)
        self._tail = tuple(tokenizer.tail)
        self._limit = model.max_positions - 1  # depth of the last token that can be run
        self._raises = options.over_long == "error"
        self._threads = (engine or EngineOptions()).threads
        self._store = KeyValueStore(model, dtype, engine, options.cache_bytes, pairs=False)
        if self._store.slots <= self._limit:
            needed = self._store.slot_bytes * (self._limit + 1)
            found = f"cache_bytes is {options.cache_bytes}"
            raise ValueError(f"{found}; expected at least {needed}, one path")
        self._dropped: deque[int] = deque()
        self._nodes: weakref.WeakValueDictionary[int, State] = weakref.WeakValueDictionary()
        self._children: weakref.WeakValueDictionary[tuple[int, int], State]
        self._children = weakref.WeakValueDictionary()
        self._made = self._groups = 0
        self._runner = NodeRunner(
            self._store,
            lambda number: self._nodes[number],
            lambda number: _path(self._nodes[number]),
            options.token_budget,
            options.row_width,
        )

    @property
    def device(self) -> torch.device:
        """Where scores are computed and handed out."""
        return self._store.device

    @property
    def max_tokens(self) -> int:
        """Most tokens of a sentence, without marks, prompt and what stands before ``end``."""
        return max(0, self._limit - (len(self._head) - 1) - len(self._tail))

    @property
    def tokens(self) -> int:
        """Tokens that were computed so far, those computed again included."""
        return self._runner.tokens

    @property
    def token_bytes(self) -> int:
        """Memory of a computed token: its keys and values, and what the output layer reads."""
        return self._store.slot_bytes

    def pieces(self) -> list[str]:
        """The names of all tokens, [V]."""
        model = self.tokenizer.model
        return [model.piece(index) for index in range(model.vocab_size)]

    def check_tokens(self, tokens: PathLike | Sequence[str]) -> None:
        """Raises unless the decoder's tokens, a list or a ``tokens.txt``, are the LM's pieces id by
        id (``check_same_tokens``)."""
        check_same_tokens(tokens, self.tokenizer.model)

    def ids_by_name(self, tokens: Sequence[str], without: Sequence[str] = ()) -> list[int | None]:
        """The LM's ids of a decoder's tokens, which may have ids of their own (``ids_by_name`` of
        adapters/tokens.py)."""
        return ids_by_name(tokens, self.tokenizer.model, without)

    def start(self, count: int = 1) -> list[State]:
        """Behind ``<s>`` and the prompt, one state for each of ``count`` utterances. Hypotheses of
        an utterance are best all started from one state: what they share is computed once."""
        states = []
        for _ in range(count):
            self._groups += 1
            state: State | None = None
            for token in self._head:
                state = self._add(token, state, self._groups)
            assert state is not None  # a head has <s> at least
            states.append(state)
        return states

    def extend(self, states: Sequence[State], tokens: Iterable[int]) -> list[State]:
        """Each state with its token more; computes nothing. ``tokens`` [N], a tensor too.

        Raises UnscorableError beyond the LM's positions, unless ``over_long`` says minus-inf.
        """
        ids = [int(token) for token in tokens]
        return [
            self._child(state, token, row)
            for row, (state, token) in enumerate(zip(states, ids, strict=True))
        ]

    def select(self, states: Sequence[State], rows: Iterable[int]) -> list[State]:
        """The states of ``rows``, any of them as often as they come; rows may be a tensor."""
        return [states[int(row)] for row in rows]

    def next_scores(self, states: Sequence[State]) -> Tensor:
        """ln P of every token behind each state, [N, V] float32; column ``end``: of what closes the
        sentence."""
        return self._scores(states, self._closings(states))[0]

    def score_next(
        self, tokens: Iterable[int], states: Sequence[State]
    ) -> tuple[Tensor, list[State]]:
        """``next_scores`` behind one token more, [N, V], and the states there."""
        after = self.extend(states, tokens)
        return self.next_scores(after), after

    def end_scores(self, states: Sequence[State]) -> NDArray[np.float64]:
        """ln P that the sentence ends behind each state, [N]."""
        return self._scores([], self._closings(states, every=True))[1]

    def score_ids(
        self, states: Sequence[State], ids: Sequence[Sequence[int]]
    ) -> tuple[NDArray[np.float64], list[State]]:
        """ln P of several tokens (a word's) behind each state, [N], and the states behind them."""
        chains = [
            self._chain(state, some, row)
            for row, (state, some) in enumerate(zip(states, ids, strict=True))
        ]
        _, sums = self._scores([], list(zip(chains, ids)))
        return sums, [chain[-1] for chain in chains]

    def _closings(
        self, states: Sequence[State], every: bool = False
    ) -> list[tuple[list[State], Sequence[int]]]:
        """What closes each state's sentence, where that is more than a column of its row."""
        if not self._tail and not every:
            return []
        found: list[tuple[list[State], Sequence[int]]] = []
        for row, state in enumerate(states):
            found.append((self._chain(state, self._tail, row), (*self._tail, self.end)))
        return found

    def _scores(
        self,
        states: Sequence[State],
        chains: Sequence[tuple[list[State], Sequence[int]]],
    ) -> tuple[Tensor, NDArray[np.float64]]:
        """Rows of ``states`` [N, V], with the sums in their column ``end`` if there are both; and
        the sum of ln P of each chain's tokens [C], the first behind its first state, and so on."""
        while self._dropped:
            self._store.release(self._dropped.popleft())
        rows_of: dict[int, list[int]] = {}
        pairs_of: dict[int, list[tuple[int, int]]] = {}
        rows = torch.full((len(states), self.vocab_size), -torch.inf, device=self.device)
        sums = torch.zeros(len(chains), dtype=torch.float64, device=self.device)
        for place, state in enumerate(states):
            self._check(state)
            if state.depth <= self._limit:
                rows_of.setdefault(state.number, []).append(place)
        for place, (chain, ids) in enumerate(chains):
            self._check(chain[0])
            if chain[-1].depth > self._limit:
                sums[place] = -torch.inf
                continue
            for state, token in zip(chain, ids):
                pairs_of.setdefault(state.number, []).append((place, token))
        with cpu_threads(self._threads):
            for ready in self._runner.ready(sorted({*rows_of, *pairs_of})):
                values = self._store.next_log_probs(ready)  # [P, V]
                if torch.isnan(values).any():
                    raise InputError(self.name, None, "an LM with the score NaN", "numbers")
                _spread(values, [rows_of.get(number, ()) for number in ready], rows)
                _add_up(values, [pairs_of.get(number, ()) for number in ready], sums)
        if len(states):
            self._finish(states, rows, sums if len(chains) else None)
        return rows, sums.cpu().numpy()

    def _finish(self, states: Sequence[State], rows: Tensor, sums: Tensor | None) -> None:
        """Put the sums into the column ``end``, and -inf where a token leads beyond the LM."""
        if sums is not None:
            rows[:, self.end] = sums.float()
        full = [place for place, state in enumerate(states) if state.depth == self._limit]
        if full and not self._raises:
            closing = rows[full, self.end]
            rows[full] = -torch.inf
            rows[full, self.end] = closing

    def _chain(self, state: State, ids: Sequence[int], row: int) -> list[State]:
        chain = [state]
        for token in ids:
            chain.append(self._child(chain[-1], token, row))
        return chain

    def _child(self, state: State, token: int, row: int) -> State:
        self._check(state)
        if not 0 <= token < self.vocab_size:
            raise ValueError(f"token {token} in row {row}; expected 0 to {self.vocab_size - 1}")
        if state.depth >= self._limit and self._raises:
            text = self.tokenizer.decode(_tokens(state)[len(self._head) :])
            problem = f"and one token more; the model takes at most {self._limit} (over_long)"
            raise UnscorableError((row, 0), text, problem)
        return self._add(token, state, state.group)

    def _add(self, token: int, parent: State | None, group: int) -> State:
        if parent is not None:
            known = self._children.get((parent.number, token))
            if known is not None:
                return known
        self._made += 1
        state = State(self._made, token, parent, group, self._dropped)
        self._nodes[self._made] = state
        if parent is not None:
            self._children[parent.number, token] = state
        return state

    def _check(self, state: State) -> None:
        if state.dropped is not self._dropped:
            raise ValueError(f"a state of another LM; expected one that {self.name} made")


def open_incremental(
    path: PathLike,
    device: str = "auto",
    dtype: torch.dtype = torch.float32,
    options: PrefixOptions | None = None,
    threads: int | None = None,
    text: TextOptions | None = None,
) -> IncrementalLM:
    """The LM of the checkpoint folder ``path``. ``device``, ``threads``: as EngineOptions says;
    ``options``: bounds, and what happens to sentences that are too long.

    Raises InputError for what is no checkpoint.
    """
    checkpoint = load_checkpoint(path, dtype=dtype)
    engine = EngineOptions(threads=threads, device=device)
    tokenizer = checkpoint.tokenizer(text)
    return IncrementalLM(checkpoint.model, tokenizer, dtype, engine, options, short_name(path))


def _path(state: State) -> list[int]:
    """The state's number and those before it, the first one first."""
    numbers = []
    one: State | None = state
    while one is not None:
        numbers.append(one.number)
        one = one.parent
    return numbers[::-1]


def _tokens(state: State) -> list[int]:
    tokens = []
    one: State | None = state
    while one is not None:
        tokens.append(one.token)
        one = one.parent
    return tokens[::-1]


def _spread(values: Tensor, places: Sequence[Sequence[int]], rows: Tensor) -> None:
    """Rows of ``values`` [P, V] to the ``places`` [P][...] that want them."""
    wanted = [place for some in places for place in some]
    sources = [number for number, some in enumerate(places) for _ in some]
    if wanted:
        rows[wanted] = values if sources == list(range(len(values))) else values[sources]


def _add_up(values: Tensor, pairs: Sequence[Sequence[tuple[int, int]]], sums: Tensor) -> None:
    """Add the ``values`` [P, V] of each (place, token) of ``pairs`` [P][...] to its sum."""
    sources = [number for number, some in enumerate(pairs) for _ in some]
    if sources:
        places, tokens = zip(*(pair for some in pairs for pair in some))
        where = torch.tensor(places, device=sums.device)
        sums.index_add_(0, where, values[sources, list(tokens)].double())
