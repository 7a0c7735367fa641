from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrprune.wer.marks import COSTS, Deletable, align_marked, is_plain, parse_marks, plain_words
from asrprune.wer.wer import count_errors

WORDS = st.sampled_from(["a", "b", "c"])
PART = st.lists(WORDS, max_size=2).map(tuple)
PLACE = st.one_of(WORDS, st.lists(PART, min_size=1, max_size=3))
HYP = st.lists(WORDS, max_size=6)


def _spelled(place):
    if isinstance(place, str):
        return place
    return "{ " + " / ".join(" ".join(part) or "@" for part in place) + " }"


def _errors(text, hyp, deletable=False, costs="equal"):
    return count_errors(
        "", " ".join(hyp), parse_marks(text.split(), deletable=deletable), COSTS[costs]
    )


@given(st.lists(PLACE, max_size=4), HYP)
def test_the_reading_with_the_fewest_errors_is_taken(places, hyp):
    readings = itertools.product(
        *([(place,)] if isinstance(place, str) else place for place in places)
    )
    texts = [" ".join(" ".join(part) for part in reading if part) for reading in readings]
    fewest = min(count_errors(text, " ".join(hyp)).errors for text in texts)
    counts = _errors(" ".join(map(_spelled, places)), hyp)
    assert counts.errors == fewest
    assert counts.hyp_words == len(hyp)


@given(st.lists(WORDS, max_size=6), HYP)
def test_a_plain_reference_has_the_errors_of_levenshtein(ref, hyp):
    text = " ".join(ref)
    assert is_plain(parse_marks(ref))
    assert plain_words(parse_marks(ref)) == ref
    assert _errors(text, hyp).errors == count_errors(text, " ".join(hyp)).errors


def test_optional_words_are_correct_when_left_out():
    counts = _errors("(uh) a (um) b", ["a", "um"], deletable=True)
    assert (counts.correct, counts.errors, counts.words) == (3, 1, 4)
    assert _errors("(uh) a", ["a"]).deletions == 1  # a word like others
    assert _errors("(uh) a", ["uh", "a"], deletable=True).errors == 0
    assert _errors("(uh) a", ["oh", "a"], deletable=True).errors == 1


def test_braces_may_touch_words():
    ref = parse_marks(["x{going", "to/gonna}y", "a/b"])
    assert [choice.alternatives for choice in ref] == [
        (("x",),),
        (("going", "to"), ("gonna",)),
        (("y",),),
        (("a/b",),),
    ]


@pytest.mark.parametrize("text", ["a { b", "a } b", "{ a / { b / c } }"])
def test_braces_that_do_not_pair(text):
    with pytest.raises(ValueError, match=r"\{|\}"):
        parse_marks(text.split())


def test_an_unlikely_reading_costs_as_sclite_says():
    # 5 substitutions cost 20 there, 3 insertions and 3 deletions 18
    ref, hyp = list("abcpqrst"), list("xyzabpqr")
    assert sum(a != b for a, b in align_marked(parse_marks(ref), hyp, COSTS["sclite"])) == 6


def test_a_deletable_word_is_a_word():
    assert Deletable("uh") == "uh"
    assert not is_plain(parse_marks(["(uh)"], deletable=True))
