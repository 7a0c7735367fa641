from __future__ import annotations

import pytest

from asrprune.core.transcripts import parse_ctm, parse_recogs, parse_stm, parse_trn


def test_a_trn_line_keeps_its_marks():
    assert parse_trn("oh (well) { a / @ } (ann-7)") == (
        "ann-7",
        ("oh", "(well)", "{", "a", "/", "@", "}"),
    )
    assert parse_trn("(ann-8)") == ("ann-8", ())
    with pytest.raises(ValueError, match="oh well"):
        parse_trn("oh well")


@pytest.mark.parametrize("label", ["<NA>", "<F0_M>", "<O,F2,female>", "<o,,unknown>", "<>"])
def test_a_label_is_no_word(label):
    segment = parse_stm(f"show 2 bob 1.5 3.25 {label} good <b> evening")
    assert segment is not None
    assert segment.words == ("good", "<b>", "evening")
    assert (segment.utt, segment.label) == ("show_2_0000150_0000325", label)


def test_what_is_not_scored_and_what_is_silent():
    ignored = parse_stm("show 1 x 0 1 <O> Ignore_Time_Segment_In_Scoring")
    silent = parse_stm("show 1 x 0 1 <O>")
    assert ignored is not None
    assert ignored.words is None
    assert silent is not None
    assert silent.words == ()
    assert parse_stm(';; CATEGORY "0" "" ""') is None


def test_notes_of_ted_lium_are_no_words():
    segment = parse_stm(
        "Ann_2009 1 Ann_2009 3 4 <o,f0,female> so {COUGH} a(2) read (2) {UH} (Ann_2009-3-4-F)"
    )
    assert segment is not None
    assert segment.words == ("so", "a(2)", "read")
    marked = parse_stm("f 1 s 0 1 { uh / @ } yes (no)")
    assert marked is not None
    assert marked.words == ("{", "uh", "/", "@", "}", "yes", "(no)")


@pytest.mark.parametrize(
    "line", ["f 1 s 0", "f 1 s 2 1 a", "f 1 s x 1 a", "f 1 s -1 1 a", "f 1 s nan 1 a"]
)
def test_bad_stm_lines(line):
    with pytest.raises(ValueError, match=r"column|time|alternation|a-1"):
        parse_stm(line)


def test_ctm_lines():
    word = parse_ctm("f A 1.25 0.5 yes 0.99 lex s1")
    assert word is not None
    assert (word.file, word.channel, word.begin_s, word.duration_s, word.word) == (
        "f",
        "A",
        1.25,
        0.5,
        "yes",
    )
    assert parse_ctm(";; made by hand") is None
    for bad in ("f A 1 2", "f A 1 x b", "f A * * <ALT_BEGIN>"):
        with pytest.raises(ValueError, match=r"column|time|alternation|a-1"):
            parse_ctm(bad)


def test_recogs_lines():
    assert parse_recogs("a-1:\tref=['it', \"'s\"]") == ("a-1", "ref", ("it", "'s"))
    assert parse_recogs("a-1:\thyp=[]") == ("a-1", "hyp", ())
    assert parse_recogs("a-1:\ttimestamp_hyp=[0.1]") is None
    for bad in ("a-1 ref", "a-1:\tref=[1]", "a-1:\tref=['a'", "a-1:\tref='a'"):
        with pytest.raises(ValueError, match=r"column|time|alternation|a-1"):
            parse_recogs(bad)
