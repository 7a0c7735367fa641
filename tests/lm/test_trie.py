"""Tries: structure and cutting, against a dictionary of prefixes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrprune.lm import trie
from asrprune.lm.trie import BatchPlan, Piece, build_forest, cut

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


@pytest.mark.slow
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


@given(LISTS, st.integers(7, 20))
def test_cutting_loses_nothing(lists, budget):
    forest = build_forest(lists, bos=1)
    pieces = list(cut(forest, budget))
    covered = [node for piece in pieces for node in range(piece.start, piece.stop)]
    assert covered == list(range(len(forest)))
    for piece in pieces:
        assert len(piece) <= budget
        parents = [*piece.path, piece.start]
        assert [forest.parent[node] for node in parents] == [-1, *piece.path][: len(parents)]


@settings(max_examples=50)
@given(LISTS, st.integers(7, 20), st.sampled_from([1, 2, 5, 32]))
def test_a_place_sees_its_ancestors_only(lists, budget, queries):
    forest = build_forest(lists, bos=1)
    if not len(forest):
        return
    plan = BatchPlan(forest, eos=2)
    answered_all = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trie, "QUERIES", queries)
        for piece in cut(forest, budget):
            batch, answered = plan.batch(piece)
            answered_all += answered.tolist()
            chosen = [*piece.path, *range(piece.start, piece.stop)]
            last = batch.last.ravel()
            assert batch.tokens.size - len(chosen) < queries
            assert batch.tokens.ravel()[: len(chosen)].tolist() == forest.tokens[chosen].tolist()
            assert batch.positions.ravel()[: len(chosen)].tolist() == forest.depth[chosen].tolist()
            for query in range(batch.tokens.size):
                keys = [key for key in batch.keys[query // queries].tolist() if 0 <= key <= query]
                sees = [key for key in keys if query <= last[key]]
                assert len(set(sees)) == len(sees)
                if query >= len(chosen):  # padding
                    assert sees == [query]
                    continue
                node = chosen[query]
                expected = {node}
                while forest.parent[node] >= 0:
                    node = int(forest.parent[node])
                    expected.add(node)
                assert {chosen[key] for key in sees} == expected
    assert answered_all == list(range(plan.wanted))


def test_the_empty_and_the_equal():
    forest = build_forest([[], [[], []], []], bos=1)
    assert forest.tokens.tolist() == [1]
    assert forest.ends.tolist() == [0, 0]
    assert len(build_forest([], bos=1)) == len(build_forest([[]], bos=1)) == 0
    assert list(cut(build_forest([], bos=1), 1)) == []


def test_a_piece_must_hold_the_longest_path():
    forest = build_forest([[[3, 4, 5]]], bos=1)
    assert list(cut(forest, 4)) == [Piece((), 0, 4)]
    with pytest.raises(ValueError, match="3 nodes at a time; expected at least 4"):
        list(cut(forest, 3))


def test_sums_run_from_the_root_to_the_end():
    forest = build_forest([[[3, 4], [3], []]], bos=1)
    plan = BatchPlan(forest, eos=2)
    batch, answered = plan.batch(next(cut(forest, 8)))
    value = {(0, 3): -1.0, (0, 2): -2.0, (1, 4): -4.0, (1, 2): -8.0, (2, 2): -16.0}
    pairs = zip(batch.nodes[batch.sources].tolist(), batch.targets.tolist())
    plan.store(answered, np.array([value[pair] for pair in pairs]))
    assert plan.sentence_scores().tolist() == [-1.0 - 4.0 - 16.0, -1.0 - 8.0, -2.0]
