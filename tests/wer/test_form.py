from __future__ import annotations

from functools import partial

import pytest

from asrprune.errors import InputError
from asrprune.wer.form import (
    ScoringForm,
    drop_punctuation,
    drop_tags,
    drop_words,
    fold_case,
    join_hyphens,
    read_equivalents,
    replace_phrases,
    run_filter,
    split_hyphens,
)


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        (fold_case, "THE Straße Cafe\u0301", "the strasse caf\u00e9"),
        (fold_case, "\u0130STANBUL I\u0307\u015e ISPARTA", "istanbul i\u015f isparta"),
        (partial(fold_case, language="tr"), "\u0130STANBUL ISPARTA", "istanbul \u0131sparta"),
        (drop_tags, "<s> a [loud noise] b<unk> !SIL c !NULL", "a b c"),
        (drop_tags, "x <y z> !SILLY", "x <y z> !SILLY"),
        (split_hyphens, "a-b \u2011 c\u2010d -e f-", "a b \u2011 c d -e f-"),
        (join_hyphens, "T-shirt -- no-", "Tshirt -- no-"),
        (split_hyphens, "धीरे-धीरे ต่อ-ไป cafe\u0301-bar", "धीरे धीरे ต่อ ไป cafe\u0301 bar"),
        (join_hyphens, "धीरे-धीरे അവന്\u200d-എ a-b-c", "धीरेधीरे അവന്\u200dഎ abc"),
        (join_hyphens, "\u0301- -a b--c a_-b", "\u0301- -a b--c a_b"),
        (drop_punctuation, '"Well," he said: it\u2019s 3,5.', "Well he said it's 3,5"),
        (drop_punctuation, "'tis dogs' re-do -- e.g. a_b", "tis dogs re-do e g a b"),
        (drop_punctuation, "नमस्ते। क्या?", "नमस्ते क्या"),
        (drop_punctuation, "[noise] <unk> (yes) 50% R&D", "[noise] <unk> yes 50% R&D"),
        (drop_punctuation, "50\uff05 R\uff06D ٤٠٪ a\ufe6b\ufe5f1", "50% R&D ٤٠% a@#1"),
        (
            drop_punctuation,
            "it\u00b4s it\uff07s T\u2011shirt T\u2010shirt",
            "it's it's T-shirt T-shirt",
        ),
    ],
)
def test_changes_by_hand(change, before, after):
    assert change(before) == after
    assert change(after) == after


def test_steps_work_in_order_before_the_unit():
    steps = (("--ignore-case", fold_case), ("--remove-words uh", drop_words(["uh"])))
    form = ScoringForm("char", steps)
    assert form.units("UH No") == ["n", "o"]
    assert form.described() == ("--ignore-case", "--remove-words uh", "--unit char")
    assert ScoringForm().described() == ()
    with pytest.raises(ValueError, match="syllable"):
        ScoringForm("syllable")


def test_equivalents_of_a_glm(tmp_path):
    path = tmp_path / "rules"
    path.write_text(
        ';; comment\n# another\n* name "x"\n\n[GONNA] => [GOING TO] / [ ] __ [ ] ;; note\n'
        "uh =>\ngoing to town => leaving\nok => okay\n"
    )
    change = replace_phrases(read_equivalents(path, fold_case))
    assert change("i am gonna go uh ok") == "i am going to go okay"
    assert change("going to town going to") == "leaving going to"


@pytest.mark.parametrize(
    "line", ["a b", "=> b", "a => { b / c }", "a => b => c", "ok => yes"], ids=range(5)
)
def test_bad_equivalents_name_the_line(tmp_path, line):
    path = tmp_path / "rules"
    path.write_text(f"ok => okay\n{line}\n")
    with pytest.raises(InputError, match="rules:2: "):
        read_equivalents(path, str.strip)
    path.write_text("# nothing\n")
    with pytest.raises(InputError, match="no equivalents"):
        read_equivalents(path, str.strip)


def test_a_filter_gets_and_gives_kaldi_text():
    texts = {"u1": "Yes no", "u2": ""}
    assert run_filter("sed 's/ no//'", texts, "references") == {"u1": "Yes", "u2": ""}
    assert run_filter("sort -r", texts, "references") == texts
    assert run_filter("cat; echo; echo", texts, "references") == texts  # blank lines at the end


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo why >&2; exit 3", "status 3 why"),
        ("head -1", "u2 is missing"),
        ("cat; echo u9 x", "u9 is new"),
        ("sed 's/.*/u1 x/'", "u1 again"),
        ("printf 'u1 \\377\\nu2\\n'", "not UTF-8"),
        ("true", "empty|blank"),
        ("echo; echo", ":1: a blank line"),
        ("head -1; echo; echo; tail -1", ":2: a blank line"),
    ],
)
def test_a_filter_that_fails_is_refused(command, message):
    with pytest.raises(InputError, match=message):
        run_filter(command, {"u1": "a", "u2": "b"}, "hypotheses")
