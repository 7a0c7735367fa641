"""Nodes of token trees on their way through a store of bounded size, parents first, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from asrprune.lm.engines.pytorch.key_value_store import KeyValueStore, Row


class TreeNode(Protocol):
    """A token behind its parent's path, ``depth`` tokens below its root; ``group``: the nodes of a
    group share a row of the forward pass. ``ran``: it has been computed at some time."""

    token: int
    depth: int
    group: int
    ran: bool


class NodeRunner:
    """``node`` tells the node that has a number, ``path`` the numbers of a node and its ancestors,
    root first; parents have lower numbers than their children.

    ``token_budget``: most new nodes in one forward pass; ``row_width``: most of them of a group.
    ``tokens`` counts nodes run, those run again included; ``again`` the latter.
    """

    def __init__(
        self,
        store: KeyValueStore,
        node: Callable[[int], TreeNode],
        path: Callable[[int], list[int]],
        token_budget: int,
        row_width: int,
    ) -> None:
        self._store, self._node, self._path = store, node, path
        self._token_budget, self._row_width = token_budget, row_width
        self.tokens = 0
        self.again = 0

    def ready(self, wanted: Sequence[int]) -> Iterator[list[int]]:
        """``wanted`` nodes (ascending) in parts that fit the store and a batch. Those of a part are
        in the store until the next part is asked for."""
        for piece in self._pieces(wanted):
            self._run(piece)
            yield piece.wanted

    def _pieces(self, wanted: Sequence[int]) -> Iterator[_Piece]:
        piece = _Piece()
        for number in wanted:
            path = self._path(number)
            if piece.wanted and not self._fits(piece, path):
                yield piece
                piece = _Piece()
            piece.wanted.append(number)
            new = [one for one in path if one not in piece.closure]
            piece.closure.update(new)
            piece.todo.update(one for one in new if one not in self._store)
            row = self._node(number).group
            todo = sum(one not in self._store for one in new)
            piece.widths[row] = piece.widths.get(row, 0) + todo
        if piece.wanted:
            yield piece

    def _fits(self, piece: _Piece, path: Sequence[int]) -> bool:
        new = [one for one in path if one not in piece.closure]
        todo = sum(one not in self._store for one in new)
        row = piece.widths.get(self._node(path[0]).group, 0)
        return (
            len(piece.closure) + len(new) <= self._store.slots
            and len(piece.todo) + todo <= self._token_budget
            and row + todo <= self._row_width
        )

    def _run(self, piece: _Piece) -> None:
        """Compute what the piece needs and the store does not have."""
        todo = sorted(piece.todo)
        if not todo:
            return
        self._store.make_room(len(todo), piece.closure)
        groups: dict[int, Row] = {}
        for number in sorted(piece.closure):
            node = self._node(number)
            row = groups.setdefault(node.group, Row([], [], [], [], []))
            if number in piece.todo:
                row.nodes.append(number)
                row.tokens.append(node.token)
                row.depths.append(node.depth)
                row.paths.append(self._path(number))
                self.again += node.ran
                node.ran = True
            else:
                row.past.append(number)
        self.tokens += len(todo)
        self._store.compute([row for row in groups.values() if row.nodes])


class _Piece:
    """Nodes that are asked for, all that they need (``closure``), and what of it is to be run."""

    def __init__(self) -> None:
        self.wanted: list[int] = []
        self.closure: set[int] = set()
        self.todo: set[int] = set()
        self.widths: dict[int, int] = {}
