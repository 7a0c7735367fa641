"""Prefix tries of hypotheses: what an utterance's hypotheses share is computed once.

All hypotheses of an utterance are merged into a trie whose root is ``<s>``; every distinct (prefix,
token) is one node. The nodes of many tries stand in one flat array in depth-first order, so that
the subtree of a node is the range ``node .. last[node]`` and "k is an ancestor of q" is two
comparisons: ``k <= q <= last[k]``. Any slice of the array, headed by the path from the root to the
slice's first node, is again a set of whole paths. So the array is cut into forward passes of
bounded size, and within a pass a few consecutive nodes attend to themselves and to one path: the
cost of attention grows with the depth of the tries, not with their size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
_PAD = -1  # sorts a sequence before its own extensions

QUERIES = 64
"""Nodes that share their keys, which are these nodes and the path above them. Of 8 to 64 the
fastest on a CPU: small products cost more than the keys that they save."""


@dataclass(frozen=True)
class Forest:
    """The tries of several utterances, one after the other, nodes in depth-first order.

    For every node (shape [nodes]): ``tokens``, ``parent`` (-1 for a root), ``depth`` (0 for a
    root; also its position in the sentence) and ``last``, the last node of its subtree.
    ``roots`` [utterances] are the first nodes of the tries that are not empty, in order;
    ``ends`` [hypotheses] is the node at which each hypothesis ends, in the caller's order.
    ``context``: tokens behind each root that are given, not scored (a prompt).
    """

    tokens: Ints
    parent: Ints
    depth: Ints
    last: Ints
    roots: Ints
    ends: Ints
    context: int = 0

    def __len__(self) -> int:
        return len(self.tokens)

    def path(self, end: int) -> list[int]:
        """The scored nodes from behind the root and its context to ``end``."""
        path = []
        while self.depth[end] > self.context:
            path.append(end)
            end = int(self.parent[end])
        return path[::-1]

    def scored(self) -> Ints:
        """The nodes whose token is scored: all but roots and context, ascending."""
        return np.flatnonzero(self.depth > self.context)


def build_forest(
    lists: Sequence[Sequence[Sequence[int]]], bos: int, prompt: Sequence[int] = ()
) -> Forest:
    """The forest of token sequences ``lists[utt][hyp]``, without ``<s>``, ids >= 0; ``prompt``
    stands before each of them, and nothing is wanted to know of its tokens.

    A list without hypotheses has no trie; the empty hypothesis ends at its root; equal hypotheses
    end at the same node. Time and memory: hypotheses x longest length, in numpy only.

    >>> forest = build_forest([[[5, 6], [5, 7], [5]]], bos=1)
    >>> forest.tokens.tolist(), forest.parent.tolist(), forest.ends.tolist()
    ([1, 5, 6, 7], [-1, 0, 1, 1], [2, 3, 1])
    """
    flat = [[*prompt, *hyp] if prompt else hyp for hyps in lists for hyp in hyps]
    if not flat:
        none = np.zeros(0, np.int64)
        return Forest(none, none, none, none, none, none)
    utt = np.repeat(np.arange(len(lists)), [len(hyps) for hyps in lists])
    lengths = np.fromiter((len(hyp) for hyp in flat), np.int64, len(flat))
    rows = np.full((len(flat), int(lengths.max()) + 1), _PAD, np.int64)  # [R, L]
    rows[:, 0] = bos
    filled = np.arange(rows.shape[1]) <= lengths[:, None]
    filled[:, 0] = False
    rows[filled] = np.fromiter(chain.from_iterable(flat), np.int64, int(lengths.sum()))

    order = _sorted_rows(rows, utt)
    rows, utt, lengths = rows[order], utt[order], lengths[order]
    shared = _shared_prefix(rows, utt, lengths)  # [R]
    column = np.arange(rows.shape[1])
    new = (column >= shared[:, None]) & (column <= lengths[:, None])  # [R, L]
    first = np.concatenate(([0], np.cumsum(new.sum(axis=1))))  # [R + 1] nodes before the row
    ids = np.zeros(rows.shape, np.int64)
    ids[new] = np.arange(first[-1])
    np.maximum.accumulate(ids, axis=0, out=ids)  # ids grow, so the newest is the largest

    depth = np.broadcast_to(column, rows.shape)[new]
    before = np.concatenate((np.full((len(rows), 1), -1), ids[:, :-1]), axis=1)
    closing = np.where(column >= shared[:, None], np.arange(len(rows))[:, None], len(rows))
    closing = np.concatenate((closing[1:], np.full((1, rows.shape[1]), len(rows))))
    closing = np.minimum.accumulate(closing[::-1], axis=0)[::-1]  # next row that leaves the node
    ends = np.empty(len(rows), np.int64)
    ends[order] = ids[np.arange(len(rows)), lengths]
    return Forest(
        tokens=rows[new],
        parent=before[new],
        depth=depth,
        last=first[closing[new]] - 1,
        roots=np.flatnonzero(depth == 0),
        ends=ends,
        context=len(prompt),
    )


def _sorted_rows(rows: Ints, utt: Ints) -> Ints:
    """The order of the rows by utterance, then from left to right: bytes that compare as numbers
    sort several times as fast as column after column."""
    keys = np.empty(rows.shape, ">u4")
    keys[:, 0], keys[:, 1:] = utt, rows[:, 1:] - _PAD
    whole = keys.view(f"V{keys[0].nbytes}")  # [R, 1]
    return np.argsort(whole.ravel(), kind="stable")


def _shared_prefix(rows: Ints, utt: Ints, lengths: Ints) -> Ints:
    """How many leading columns each sorted row shares with the one before it, ``<s>`` included."""
    differs = rows[1:] != rows[:-1]
    columns = rows.shape[1]
    shared = np.where(differs.any(axis=1), differs.argmax(axis=1), columns)
    shared = np.minimum(shared, lengths[1:] + 1)
    shared[utt[1:] != utt[:-1]] = 0
    return np.concatenate(([0], shared))


@dataclass(frozen=True)
class Piece:
    """Nodes ``start <= node < stop`` of a forest, headed by the path from a root to ``start``."""

    path: tuple[int, ...]
    start: int
    stop: int

    def __len__(self) -> int:
        return len(self.path) + self.stop - self.start


def cut(forest: Forest, budget: int) -> Iterator[Piece]:
    """Cut a forest into pieces of at most ``budget`` nodes that together cover each node once.

    A piece repeats the path to its first node (that is the price of bounded memory), so cuts are
    made near a root: in the last eighth of the largest possible piece, where the depth is least.

    Raises ValueError when ``budget`` cannot hold the longest path.
    """
    deepest = int(forest.depth.max(initial=0)) + 1
    if budget < deepest:
        raise ValueError(f"{budget} nodes at a time; expected at least {deepest}, the longest path")
    start, stop = 0, len(forest)
    while start < stop:
        end = start + budget - int(forest.depth[start])
        if end >= stop:
            end = stop
        else:
            earliest = max(start + 1, end - budget // 8)
            end = earliest + int(np.argmin(forest.depth[earliest : end + 1]))
        yield Piece(_path(forest, start), start, end)
        start = end


def _path(forest: Forest, node: int) -> tuple[int, ...]:
    """The proper ancestors of ``node``, root first."""
    path = []
    node = int(forest.parent[node])
    while node >= 0:
        path.append(node)
        node = int(forest.parent[node])
    return tuple(reversed(path))


@dataclass(frozen=True)
class TrieBatch:
    """One forward pass: rows of nodes and the log-probabilities that are wanted from it.

    The nodes fill C rows of Q places one after the other; place p is row p // Q, column p % Q.
    ``tokens``, ``positions`` and ``last`` [C, Q]: what stands at each place, its depth, and the
    last place that may attend to it; padding stands at the end and is seen by itself only.
    ``keys`` [C, S]: the places that the queries of a row may attend to, -1 for none. A query at
    place q attends to key k where 0 <= k <= q <= last[k].
    ``nodes`` [N]: places whose next-token distribution is needed, each once. ``sources`` [P] (index
    into ``nodes``, ascending) and ``targets`` [P]: the wanted ln p(target | path to the node).
    """

    tokens: Ints
    positions: Ints
    last: Ints
    keys: Ints
    nodes: Ints
    sources: Ints
    targets: Ints


class BatchPlan:
    """Turns pieces of a forest into TrieBatch objects and collects their results.

    One wanted log-probability per node that is neither a root nor context, and one per node at
    which a hypothesis ends (of ``eos``).
    """

    def __init__(self, forest: Forest, eos: int) -> None:
        self._forest = forest
        children = forest.scored()
        self._end_nodes = np.unique(forest.ends)
        sources = np.concatenate((forest.parent[children], self._end_nodes))
        targets = np.concatenate((forest.tokens[children], np.full(len(self._end_nodes), eos)))
        self._order = np.argsort(sources, kind="stable")
        self._sources = sources[self._order]
        self._targets = targets[self._order]
        self._children = children
        self._results = np.full(len(sources), np.nan)

    @property
    def wanted(self) -> int:
        """How many log-probabilities the forest needs."""
        return len(self._sources)

    def batch(self, piece: Piece) -> tuple[TrieBatch, Ints]:
        """The batch of ``piece``, and which wanted log-probabilities it answers ([P])."""
        forest, body = self._forest, len(piece.path)
        chosen = np.concatenate((piece.path, np.arange(piece.start, piece.stop)))
        chosen = chosen.astype(np.int64, copy=False)
        rows = -(-len(chosen) // QUERIES)
        places = np.arange(rows * QUERIES)
        tokens, positions = np.zeros_like(places), np.zeros_like(places)
        last = places.copy()
        tokens[: len(chosen)] = forest.tokens[chosen]
        positions[: len(chosen)] = forest.depth[chosen]
        last[: len(chosen)] = np.minimum(forest.last[chosen], piece.stop - 1) - piece.start + body
        above = self._ancestors(chosen[::QUERIES])  # [C, A] nodes
        here = np.where(above < piece.start, forest.depth[above], above - piece.start + body)
        own = places.reshape(rows, QUERIES)
        low, high = np.searchsorted(self._sources, (piece.start, piece.stop))
        batch = TrieBatch(
            tokens.reshape(rows, QUERIES),
            positions.reshape(rows, QUERIES),
            last.reshape(rows, QUERIES),
            np.concatenate((np.where(above < 0, -1, here), own), axis=1),
            np.arange(body, len(chosen)),
            self._sources[low:high] - piece.start,
            self._targets[low:high],
        )
        return batch, np.arange(low, high)

    def _ancestors(self, nodes: Ints) -> Ints:
        """The proper ancestors of each of ``nodes``, parents first, -1 behind the root: [N, A]."""
        columns = []
        above = self._forest.parent[nodes]
        while (above >= 0).any():
            columns.append(above)
            above = np.where(above >= 0, self._forest.parent[above], -1)
        return np.stack(columns, axis=1) if columns else np.zeros((len(nodes), 0), np.int64)

    def store(self, answered: Ints, log_probs: NDArray[np.float64]) -> None:
        """Keep the results of one batch."""
        self._results[self._order[answered]] = log_probs

    def sentence_scores(self) -> NDArray[np.float64]:
        """ln P of every hypothesis, ``</s>`` included, summed in float64 from the root down."""
        forest = self._forest
        total, final = self.token_scores()
        by_depth = np.argsort(forest.depth, kind="stable")
        starts = np.searchsorted(forest.depth[by_depth], np.arange(2, forest.depth.max() + 2))
        for low, high in zip(starts[:-1], starts[1:]):
            level = by_depth[low:high]
            total[level] += total[forest.parent[level]]
        scores: NDArray[np.float64] = (total + final)[forest.ends]
        return scores

    def token_scores(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """ln p of every node's token given the path before it (0 for a root and its context), and
        of ``</s>`` behind the nodes at which a hypothesis ends (0 elsewhere), [nodes] both."""
        token = np.zeros(len(self._forest))
        token[self._children] = self._results[: len(self._children)]
        final = np.zeros(len(self._forest))
        final[self._end_nodes] = self._results[len(self._children) :]
        return token, final
