"""Tries: structure, cutting and packing, against a dictionary of prefixes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrprune.lm.trie import BatchPlan, Piece, build_forest, cut, pack

LISTS = st.lists(
    st.lists(st.lists(st.integers(3, 5), max_size=6), max_size=8), min_size=1, max_size=5
)


def prefixes(hyps):
    return {tuple(hyp[:size]) for hyp in hyps for size in range(len(hyp) + 1)}


def path_of(forest, node):
    path = []
    while forest.parent[node] >= 0:
        path.append(int(forest.tokens[node]))
        node = forest.parent[node]
    return tuple(reversed(path)), int(node)


@given(LISTS)
def test_each_distinct_prefix_is_one_node(lists):
    forest = build_forest(lists, bos=1)
    assert len(forest) == sum(len(prefixes(hyps)) for hyps in lists)
    roots = iter(forest.roots.tolist())
    position = 0
    for hyps in lists:
        root = next(roots) if hyps else None
        for hyp in hyps:
            path, found_root = path_of(forest, forest.ends[position])
            assert path == tuple(hyp)
            assert found_root == root
            position += 1


@given(LISTS)
def test_subtrees_are_ranges(lists):
    forest = build_forest(lists, bos=1)
    for node in range(len(forest)):
        parent = forest.parent[node]
        assert forest.depth[node] == (0 if parent < 0 else forest.depth[parent] + 1)
        inside = {node}
        for other in range(node + 1, len(forest)):
            if forest.parent[other] in inside:
                inside.add(other)
        assert inside == set(range(node, forest.last[node] + 1))


@given(LISTS, st.integers(7, 20), st.integers(20, 60))
def test_cutting_and_packing_lose_nothing(lists, width, budget):
    forest = build_forest(lists, bos=1)
    pieces = list(cut(forest, width))
    covered = [node for piece in pieces for node in range(piece.start, piece.stop)]
    assert sorted(covered) == list(range(len(forest)))
    for piece in pieces:
        assert len(piece) <= width
        parents = [*piece.path, piece.start]
        assert [forest.parent[node] for node in parents] == [-1, *piece.path][: len(parents)]
    batches = pack(pieces, width, budget)
    packed = [piece for rows in batches for row in rows for piece in row]
    assert sorted(packed, key=lambda p: p.start) == sorted(pieces, key=lambda p: p.start)
    for rows in batches:
        lengths = [sum(map(len, row)) for row in rows]
        assert max(lengths) <= width
        assert len(rows) * max(lengths) <= max(budget, width)


@settings(max_examples=50)
@given(LISTS, st.integers(7, 20))
def test_a_place_sees_its_ancestors_only(lists, width):
    forest = build_forest(lists, bos=1)
    if not len(forest):
        return
    plan = BatchPlan(forest, eos=2)
    answered_all = []
    for rows in pack(list(cut(forest, width)), width, 40):
        batch, answered = plan.batch(rows)
        answered_all += answered.tolist()
        for number, row in enumerate(rows):
            chosen = [n for piece in row for n in (*piece.path, *range(piece.start, piece.stop))]
            owner = [i for i, piece in enumerate(row) for _ in range(len(piece))]
            for query, node in enumerate(chosen):
                sees = {chosen[key] for key in range(query + 1) if query <= batch.last[number, key]}
                expected = {node}
                while forest.parent[node] >= 0:
                    node = int(forest.parent[node])
                    expected.add(node)
                assert sees == expected
                assert all(
                    owner[key] == owner[query]
                    for key in range(query + 1)
                    if query <= batch.last[number, key]
                )
            padding = range(len(chosen), batch.tokens.shape[1])
            assert batch.last[number, list(padding)].tolist() == list(padding)
    assert sorted(answered_all) == list(range(plan.wanted))


def test_the_empty_and_the_equal():
    forest = build_forest([[], [[], []], []], bos=1)
    assert forest.tokens.tolist() == [1]
    assert forest.ends.tolist() == [0, 0]
    assert len(build_forest([], bos=1)) == len(build_forest([[]], bos=1)) == 0
    assert list(cut(build_forest([], bos=1), 1)) == []


def test_a_row_must_hold_the_longest_path():
    forest = build_forest([[[3, 4, 5]]], bos=1)
    assert list(cut(forest, 4)) == [Piece((), 0, 4)]
    with pytest.raises(ValueError, match="rows of 3 nodes; expected at least 4"):
        list(cut(forest, 3))


def test_sums_run_from_the_root_to_the_end():
    forest = build_forest([[[3, 4], [3], []]], bos=1)
    plan = BatchPlan(forest, eos=2)
    batch, answered = plan.batch([list(cut(forest, 8))])
    value = {(0, 3): -1.0, (0, 2): -2.0, (1, 4): -4.0, (1, 2): -8.0, (2, 2): -16.0}
    pairs = zip(batch.nodes[batch.sources].tolist(), batch.targets.tolist())
    plan.store(answered, np.array([value[pair] for pair in pairs]))
    assert plan.sentence_scores().tolist() == [-1.0 - 4.0 - 16.0, -1.0 - 8.0, -2.0]
