from __future__ import annotations

import kaldialign
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrprune.core.counts import ErrorCounts
from asrprune.errors import InputError
from asrprune.wer.marks import Deletable, parse_marks
from asrprune.wer.wer import align_words, count_errors, score_texts, shared_rows

SENTENCE = st.lists(st.sampled_from(["a", "b", "i", "the", "cat"]), max_size=9).map(" ".join)


@pytest.mark.parametrize(
    ("ref", "hyp", "expected"),
    [
        ("", "", ErrorCounts()),
        ("", "a b", ErrorCounts(insertions=2)),
        ("a b", "", ErrorCounts(deletions=2)),
        ("i", "i", ErrorCounts(correct=1)),
        ("i", "a", ErrorCounts(substitutions=1)),
        ("i saw a cat", "i saw cat", ErrorCounts(correct=3, deletions=1)),
        ("i saw cat", "i saw a cat", ErrorCounts(correct=3, insertions=1)),
        ("Cat", "cat", ErrorCounts(substitutions=1)),
        ("can't", "can 't", ErrorCounts(substitutions=1, insertions=1)),
    ],
)
def test_counts_by_hand(ref, hyp, expected):
    assert count_errors(ref, hyp) == expected


@given(SENTENCE, SENTENCE)
def test_errors_agree_with_kaldialign(ref, hyp):
    counts = count_errors(ref, hyp)
    other = kaldialign.edit_distance(ref.split(), hyp.split())
    assert counts.errors == other["total"]
    assert counts.words == len(ref.split())
    assert counts.hyp_words == len(hyp.split())


@given(SENTENCE, SENTENCE)
def test_alignment_spells_out_both_sides(ref, hyp):
    alignment = align_words(ref, hyp)
    assert " ".join(word for word, _ in alignment if word is not None) == ref
    assert " ".join(word for _, word in alignment if word is not None) == hyp
    assert (None, None) not in alignment


REFS = {"u1": "the cat sat", "u2": "a dog", "u3": "", "u4": "i"}


def test_kaldi_lines_byte_for_byte():
    hyps = {"u4": "i", "u3": "uh", "u2": "dog", "u1": "the hat sat"}
    scoring = score_texts(REFS, hyps)
    assert scoring.kaldi_lines() == (
        "%WER 50.00 [ 3 / 6, 1 ins, 1 del, 1 sub ]\n"
        "%SER 75.00 [ 3 / 4 ]\n"
        "Scored 4 sentences, 0 not present in hyp.\n"
    )
    assert [one.utt for one in scoring.utterances] == list(REFS)


def test_missing_hypotheses_left_out_in_mode_present():
    scoring = score_texts(REFS, {"u1": "the cat sat", "zz": "x"}, "present")
    assert scoring.kaldi_lines() == (
        "%WER 0.00 [ 0 / 3, 0 ins, 0 del, 0 sub ] [PARTIAL]\n"
        "%SER 0.00 [ 0 / 1 ]\n"
        "Scored 1 sentences, 3 not present in hyp.\n"
    )
    assert (scoring.missing, scoring.unknown) == (("u2", "u3", "u4"), ("zz",))


def test_missing_hypotheses_are_deletions_in_mode_all():
    scoring = score_texts(REFS, {"u1": "the cat sat"}, "all")
    # u3 has an empty reference, so the empty hypothesis filled in for it is right
    assert scoring.kaldi_lines() == (
        "%WER 50.00 [ 3 / 6, 0 ins, 3 del, 0 sub ] [PARTIAL]\n"
        "%SER 50.00 [ 2 / 4 ]\n"
        "Scored 4 sentences, 3 not present in hyp.\n"
    )
    assert [one.present for one in scoring.utterances] == [True, False, False, False]


def test_strict_names_what_does_not_join():
    with pytest.raises(InputError, match=r"no hypothesis for utterances u2, u3, u4"):
        score_texts(REFS, {"u1": "x"})
    with pytest.raises(InputError, match=r"no reference for utterance zz"):
        score_texts(REFS, {**REFS, "zz": "x"})
    many = {f"u{number}": "a" for number in range(9)}
    with pytest.raises(InputError, match=r"u1, u2, u3 and 5 more"):
        score_texts(many, {"u0": "a"})


def test_nothing_to_score_is_refused():
    for mode in ("strict", "all"):
        with pytest.raises(InputError, match="no reference words"):
            score_texts({"u1": ""}, {"u1": "a"}, mode)
    with pytest.raises(InputError, match="no reference words in the 0 utterances"):
        score_texts(REFS, {"zz": "a"}, "present")
    with pytest.raises(ValueError, match="mode is 'lenient'"):
        score_texts(REFS, REFS, "lenient")


def test_order_of_hypotheses_does_not_matter():
    hyps = {"u1": "the cat", "u2": "a dog", "u3": "", "u4": "eye"}
    turned = dict(reversed(hyps.items()))
    assert score_texts(REFS, hyps) == score_texts(REFS, turned)


def test_on_disk_is_the_same():
    refs = {"u1": "a b", "u2": "{ c / d }", "u3": ""}
    marked = {"u2": parse_marks(["{", "c", "/", "d", "}", "(uh)"], deletable=True)}
    hyps = {"u2": "d", "u1": "a c", "u3": "x"}
    kept = score_texts(refs, hyps, marked=marked)
    found = score_texts(refs, hyps, marked=marked, on_disk=True)
    assert tuple(found.utterances) == kept.utterances
    assert [type(word) for word, _ in list(found.utterances)[1].alignment] == [str, Deletable]
    assert found.kaldi_lines() == kept.kaldi_lines()
    assert list(found.table) == [one.counts for one in kept.utterances]
    assert found.table.total == found.counts == sum(kept.table, ErrorCounts())
    assert kept.table.words(1) == 2


def test_rows_of_the_utterances_that_two_scorings_share():
    refs = {"u1": "a", "u2": "b", "u3": "c", "u4": "d"}
    first = score_texts(refs, {"u1": "a", "u3": "c", "u4": "d"}, "present")
    second = score_texts(dict(reversed(refs.items())), {"u4": "d", "u2": "b", "u1": "x"}, "present")
    one, other = shared_rows(first, second)
    assert one.tolist() == [0, 2]  # u1, u4
    assert other.tolist() == [2, 0]
