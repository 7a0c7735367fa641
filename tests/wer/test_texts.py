from __future__ import annotations

import logging

import pytest

from asrprune.errors import InputError
from asrprune.wer.score import ScoringRules, prepare_hyps, prepare_refs, score_prepared
from asrprune.wer.texts import TEXT_FORMATS, read_texts, texts_of_ctm
from asrprune.wer.wer import score_texts

STM = (
    ';; LABEL "O" "Overall" ""\n'
    "show 1 ann 0.0 2.0 <NA> good morning\n"
    "show 1 bob 2.0 4.0 <O,F0,male> { hello / hi } there\n"
    "show 1 nn 4.0 5.0 <O> ignore_time_segment_in_scoring\n"
    "show 1 ann 6.0 7.0 <O>\n"
)
CTM = (
    "show 1 0.1 0.4 good\nshow 1 0.9 0.4 morning 0.9\nshow 1 2.2 0.2 hi\nshow 1 3.0 0.5 there\n"
    "show 1 4.4 0.1 rustle\nshow 1 5.4 0.2 oh\nother 1 0.0 0.2 what\n"
)
SAMPLES = {
    "kaldi": "ann-1 good morning\nann-2 hi (laughs)\nann-3\n",
    "trn": "good morning (ann-1)\nhi { there / @ } (ann-2)\n(ann-3)\n",
    "stm": STM,
    "ctm": CTM,
    "recogs": (
        "ann-1:\tref=['good', 'morning']\nann-1:\thyp=['good']\n"
        "ann-2:\tref=[]\nann-2:\thyp=['hi']\n"
    ),
    "per-utt": (
        "ann-1 ref  good  morning\nann-1 hyp  good    ***\n"
        "ann-1 op    C       D\nann-1 #csid 1 0 0 1\n"
        "ann-2 ref  ***\nann-2 hyp  hi\nann-2 op    I\nann-2 #csid 0 0 1 0\n"
    ),
}


def _file(folder, text, name="texts"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", TEXT_FORMATS)
def test_each_format_is_told_from_its_lines(name, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = _file(tmp_path, SAMPLES[name])
    found = read_texts(path)
    assert found == read_texts(path, name)
    assert found.format == name
    assert ("read as" in caplog.text) == (name != "kaldi")


@pytest.mark.parametrize(
    "text",
    [
        "u1 yes (noise)\nu2 no (noise)\n",
        "u1 hello (laughs)\n",
        "u1 2 3 4 5 6\n",
        "u1 1 2 3 yes\nu2 1 3 4 no\n",
        "u1\nu2 (2)\n",
        "u1 ref  a\nu1 hyp  b\n",
        "f 1 s one two three\n",
    ],
)
def test_kaldi_texts_that_look_like_others_stay_kaldi(text, tmp_path):
    path = _file(tmp_path, text.replace("u1 ref", "u2 ref") if "hyp  b" in text else text)
    assert read_texts(path).format == "kaldi"


def test_both_sides_of_a_file_that_holds_both(tmp_path):
    for name in ("recogs", "per-utt"):
        path = _file(tmp_path, SAMPLES[name], name)
        assert read_texts(path, side="ref").texts == {"ann-1": "good morning", "ann-2": ""}
        assert read_texts(path, side="hyp").texts == {"ann-1": "good", "ann-2": "hi"}


def test_an_nbest_list_is_refused_by_name(tmp_path):
    path = _file(tmp_path, '{"format": "asrprune-nbest", "version": 1}\n')
    with pytest.raises(InputError, match="n-best lists"):
        read_texts(path)


@pytest.mark.parametrize("name", ["trn", "stm", "ctm", "kaldi", "per-utt"])
def test_blank_lines_and_repeats_name_the_line(name, tmp_path):
    lines = SAMPLES[name].splitlines(keepends=True)
    if name != "per-utt":
        with pytest.raises(InputError, match="texts:2: a blank line"):
            read_texts(_file(tmp_path, "".join([lines[0], "\n", *lines[1:]])), name)
    if name != "ctm":
        with pytest.raises(InputError, match=r"texts:\d+: .*again.*; expected each utterance once"):
            read_texts(
                _file(tmp_path, "".join([*lines, lines[1] if name == "stm" else lines[0]])), name
            )


def test_an_stm_scores_a_ctm(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    refs = read_texts(_file(tmp_path, STM, "a.stm"))
    hyps = read_texts(_file(tmp_path, CTM, "a.ctm"))
    assert texts_of_ctm(hyps, refs) == {
        "show_1_0000000_0000200": "good morning",
        "show_1_0000200_0000400": "hi there",
        "show_1_0000600_0000700": "oh",  # behind the segment before, as sclite puts it
    }
    assert "left out 1 words of files without a segment" in caplog.text
    rules = ScoringRules()
    scoring = score_prepared(
        prepare_refs(refs, rules), prepare_hyps(hyps, refs, rules), rules, "strict"
    )
    assert (scoring.counts.errors, scoring.counts.insertions, scoring.counts.words) == (1, 1, 4)


def test_a_word_belongs_to_the_first_segment_that_ends_behind_it(tmp_path):
    stm = "".join(f"show 1 {spk} <O> w\n" for spk in ("a 0.0 10.0", "b 2.0 3.0", "c 11.0 12.0"))
    refs = read_texts(_file(tmp_path, stm, "a.stm"))
    words = (("before", 1.0), ("inside", 2.4), ("behind", 5.0), ("between", 10.4), ("last", 11.5))
    ctm = "".join(f"show 1 {begin} 0.1 {word}\n" for word, begin in words)
    hyps = read_texts(_file(tmp_path, ctm, "a.ctm"))
    # "b" lies within "a", which ends behind all that "b" could have
    assert list(texts_of_ctm(hyps, refs).values()) == ["before inside behind", "", "between last"]


def test_a_ctm_of_utterances_gives_silent_ones_no_words(tmp_path):
    refs = read_texts(_file(tmp_path, "a good\nb day\n", "ref"))
    hyps = read_texts(_file(tmp_path, "a 1 0.5 0.2 day\na 1 0.1 0.2 good\n", "h.ctm"))
    assert texts_of_ctm(hyps, refs) == {"a": "good day", "b": ""}


def test_ignored_segments_are_not_scored_in_texts_either(tmp_path):
    refs = read_texts(_file(tmp_path, STM, "a.stm"))
    text = "show_1_0000000_0000200 good\nshow_1_0000200_0000400 hi there\n"
    text += "show_1_0000400_0000500 noise\nshow_1_0000600_0000700\n"
    hyps = prepare_hyps(read_texts(_file(tmp_path, text)), refs, ScoringRules())
    assert score_texts(prepare_refs(refs, ScoringRules()).texts, hyps.texts).counts.deletions == 1


def test_marks_that_do_not_pair_name_line_and_utterance(tmp_path):
    refs = read_texts(_file(tmp_path, "yes (a-1)\nno { b (a-2)\n"), "trn")
    with pytest.raises(InputError, match=r"texts:2: utterance a-2: a { without its }"):
        prepare_refs(refs, ScoringRules())
    with pytest.raises(InputError, match="alternatives in a hypothesis"):
        prepare_hyps(refs, refs, ScoringRules())


def test_optional_words_are_words_of_the_form(tmp_path):
    from asrprune.wer.form import ScoringForm, fold_case

    refs = read_texts(_file(tmp_path, "u1 UH yes (well)\n"))
    form = ScoringForm("char", (("--ignore-case", fold_case),))
    rules = ScoringRules(form, optional=frozenset({"uh"}))
    hyps = read_texts(_file(tmp_path, "u1 yes\n", "hyp"))
    counts = score_prepared(
        prepare_refs(refs, rules), prepare_hyps(hyps, refs, rules), rules, "strict"
    ).counts
    assert (counts.errors, counts.correct) == (0, 9)
