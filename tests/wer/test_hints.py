from __future__ import annotations

import re

import pytest

from asrprune.wer.hints import hints, id_hint

LINES = ["it was a dark and stormy night", "the rain fell in torrents", "no one was about"]
TEXTS = {f"u{number}": line for number, line in enumerate(LINES)}


def _mapped(change):
    return {utt: change(text) for utt, text in TEXTS.items()}


@pytest.mark.parametrize(
    ("refs", "hyps", "told"),
    [
        (
            _mapped(str.upper),
            TEXTS,
            "references are upper case, hypotheses lower case.*--ignore-case",
        ),
        (TEXTS, _mapped(str.title), "hypotheses mixed case.*--ignore-case"),
        (
            TEXTS,
            _mapped(lambda text: f"{text}."),
            "only the hypotheses have punctuation.*--ignore-p",
        ),
        (
            _mapped(lambda text: f"<sil> {text} [noise]"),
            TEXTS,
            "only the references have tags.*--remove-tags",
        ),
        (
            _mapped(lambda t: t.replace("a ", "a-")),
            _mapped(lambda t: t.replace("a ", "a ")),
            "--hyphens split",
        ),
        (
            {"a": "धीरे-धीरे बड़े-बड़े"},
            {"a": "धीरे धीरे बड़े बड़े"},
            "only the references have hyphens.*--hyphens split",
        ),
        (
            {"a": "caf\u00e9 d\u00e9j\u00e0 vu"},
            {"a": "cafe\u0301 de\u0301ja\u0300 vu"},
            "NFC, NFD.*--filter",
        ),
        ({"a": "one two"}, {"a": "one\u200b two"}, "only the hypotheses hold zero-width spaces"),
        ({"a": "привет мир"}, {"a": "privet mir"}, "Cyrillic letters, hypotheses Latin"),
        ({"a": "{ um / @ } yes we"}, {"a": "yes we"}, "--alternations"),
        ({"a": "我们去图书馆"}, {"a": "我们 去 图书馆"}, "--unit char"),
    ],
)
def test_each_cause_is_named_with_its_option(refs, hyps, told):
    found = "\n".join(hints(refs, hyps))
    assert re.search(told, found), found


@pytest.mark.parametrize(
    ("text", "case"),
    [
        ("THE CAT SAT x", "mixed case"),
        ("THE CATS SAT x", "upper case"),
        (f"X {'x' * 50}", "mixed case"),
        (f"X {'x' * 51}", "lower case"),
    ],
)
def test_a_text_is_in_capitals_from_nine_to_one_and_small_from_fifty_to_one(text, case):
    other = str.upper if case == "lower case" else str.lower
    (told,) = hints({"a": text}, {"a": other(text)})
    assert told.startswith(f"references are {case}, hypotheses ")


@pytest.mark.parametrize(
    ("refs", "hyps"),
    [
        (TEXTS, TEXTS),
        (TEXTS, _mapped(lambda text: text.replace("was", "is"))),
        (TEXTS, dict.fromkeys(TEXTS, "")),
        ({"a": "我 们 去"}, {"a": "我 们"}),
        ({"a": ""}, {"a": "x"}),
        ({"a": "THE CAT"}, {"b": "the cat"}),
    ],
)
def test_errors_of_a_recogniser_are_no_cause(refs, hyps):
    assert hints(refs, hyps) == []


@pytest.mark.parametrize(
    ("refs", "hyps", "told"),
    [
        (_mapped(str.upper), TEXTS, "; write both in one form first (wer has --ignore-case)"),
        ({"a": "привет мир"}, {"a": "privet mir"}, ": no word can be right; write both in one scr"),
        ({"a": "{ um / @ } yes we"}, {"a": "yes we"}, "; write one reading (wer has --alternat"),
    ],
)
def test_a_verb_that_is_no_scorer_is_not_told_of_options_that_it_has_not(refs, hyps, told):
    found = "\n".join(hints(refs, hyps, scorer=False))
    assert told in found
    assert "see --" not in found


def test_han_counted_by_character_needs_no_hint():
    assert hints({"a": "我 们 去"}, {"a": "我 们 取"}, "char") == []


@pytest.mark.parametrize(
    ("missing", "unknown", "told"),
    [
        (["ann-1", "ann-2"], ["ANN-1", "ANN-2"], "differ in case"),
        (["1", "2", "3"], ["ann-1", "ann-2", "ann-3"], "ids of the hypotheses begin with 'ann-'"),
        (["a.wav", "b.wav"], ["b", "a"], "ids of the references end with '.wav'"),
        (["a", "b"], ["x", "y"], None),
        (["a"], [], None),
    ],
)
def test_how_ids_differ(missing, unknown, told):
    found = id_hint(missing, unknown)
    assert found is None if told is None else told in str(found)
