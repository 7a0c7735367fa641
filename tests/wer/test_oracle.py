from __future__ import annotations

import pytest

from asrprune.core.counts import ErrorCounts
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.errors import InputError
from asrprune.wer.oracle import oracle_errors


def _nbest(utt, *texts, ref=None):
    return NBest(utt, tuple(Hypothesis(text) for text in texts), ref=ref)


LISTS = [
    _nbest("u1", "a hat", "a bat", "the cat", "the cat sat"),
    _nbest("u2", "i", "eye"),
]
REFS = {"u1": "the cat sat", "u2": "i"}


def _errors(result, depth):
    return sum(result.counts_at(depth), ErrorCounts()).errors


def test_errors_fall_with_depth():
    result = oracle_errors(iter(LISTS), REFS, depths=(1, 2, 3, 10))
    assert result.depths == (1, 2, 3, 4)  # nothing is deeper than the longest list
    assert [_errors(result, depth) for depth in result.depths] == [3, 3, 1, 0]
    assert [one.rank for one in result.utterances] == [4, 1]
    assert (result.mean_hypotheses, result.mean_rank) == (3.0, 2.5)


def test_earliest_of_equals_is_the_rank():
    result = oracle_errors([_nbest("u", "b", "c", "c", ref="a")])
    assert result.utterances[0].rank == 1


def test_reference_in_the_list_unless_a_file_gives_it():
    assert _errors(oracle_errors([_nbest("u", "a", ref="a")]), 1) == 0
    assert _errors(oracle_errors([_nbest("u", "a", ref="a")], {"u": "b"}), 1) == 1
    with pytest.raises(InputError, match="utterance u without a reference"):
        oracle_errors([_nbest("u", "a")])


def test_empty_list_and_empty_hypothesis_are_deletions():
    result = oracle_errors(
        [_nbest("u1", ref="a b"), _nbest("u2", "", ref="c"), _nbest("u3", ref="")]
    )
    assert result.counts_at(1) == (
        ErrorCounts(deletions=2),
        ErrorCounts(deletions=1),
        ErrorCounts(),
    )
    assert result.empty_lists == 2
    assert [one.rank for one in result.utterances] == [None, 1, None]
    assert oracle_errors([_nbest("u1", ref="a")]).mean_rank is None


def test_modes():
    refs = {**REFS, "u3": "not there"}
    with pytest.raises(InputError, match="no hypothesis for utterance u3"):
        oracle_errors(LISTS, refs)
    with pytest.raises(InputError, match="no reference for utterance u2"):
        oracle_errors(LISTS, {"u1": "the"})
    present = oracle_errors(LISTS, refs, "present")
    assert [one.utt for one in present.utterances] == ["u1", "u2"]
    assert present.missing == ("u3",)
    filled = oracle_errors(LISTS, refs, "all")
    assert _errors(filled, filled.depths[-1]) == 2
    assert oracle_errors(LISTS, {"u2": "i"}, "present").unknown == ("u1",)


def test_bad_input():
    with pytest.raises(InputError, match="utterance u1 again"):
        oracle_errors([LISTS[0], LISTS[0]], REFS)
    with pytest.raises(InputError, match="no reference words"):
        oracle_errors([])
    with pytest.raises(ValueError, match="depths"):
        oracle_errors(LISTS, REFS, depths=(0,))
