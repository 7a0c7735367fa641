"""How much an LM knows of a text, and what is said of the rest."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from asrprune.errors import InputError
from asrprune.text.coverage import Coverage, check_coverage, likely_cause
from asrprune.text.form import TextForm

KNOWN = {"the", "old", "mill", "don't", "今", "天"}


class Words:
    """A spelling of whole words."""

    form = TextForm()

    def knows(self, word: str) -> bool:
        return word in KNOWN

    def coverage(self, words: Counter[str]) -> Coverage:
        found = Coverage()
        for word, count in words.items():
            letters = {letter for known in KNOWN for letter in known}
            outside = set(word) - letters
            found += Coverage.of(word, count, unknown=word not in KNOWN, outside=outside)
        return found


@pytest.mark.parametrize(
    ("text", "cause", "remedy"),
    [
        ("THE OLD MILL", "upper-case letters", "--normalise lower"),
        ("the, old. mill!", "punctuation", "--normalise asr"),
        ("the\u200b old\u200b", "U\\+200B ZERO WIDTH SPACE", "take them out"),
        ("今天 天今", "without spaces", "--unit"),
        ("старая мельница", "another script \\(Cyrillic\\)", "LM of this language"),
        ("quinoa smoothie", "another vocabulary", "domain"),
    ],
)
def test_the_cause_is_named(text: str, cause: str, remedy: str) -> None:
    import re

    found = likely_cause(Words().coverage(Counter(text.split())), Words().knows)
    assert re.search(cause, found[0])
    assert re.search(remedy, found[1])


@pytest.mark.parametrize(
    ("known", "cause"),
    [
        ("a mill", "letters that the LM's text does not have"),
        ("мельница", "letters of another script (Latin)"),
    ],
)
def test_letters_that_a_text_of_the_same_script_lacks(known: str, cause: str) -> None:
    found = Coverage.of("þøß", 3, unknown=True, outside="þøß")
    assert likely_cause(found, known.split().__contains__) == (cause, "use an LM of this language")


def test_lower_case_for_an_upper_case_lm() -> None:
    found = Coverage.of("mill", 2, unknown=True)
    assert "use --normalise upper" in likely_cause(found, {"MILL"}.__contains__)


@pytest.mark.parametrize(("unknown", "level"), [(0, "INFO"), (5, "INFO"), (6, "WARNING")])
def test_levels(unknown: int, level: str, caplog: pytest.LogCaptureFixture) -> None:
    found = Words().coverage(Counter({"the": 100 - unknown, "quinoa": unknown}))
    with caplog.at_level(logging.INFO):
        check_coverage(found, "list", "lm", Words())
    assert [record.levelname for record in caplog.records] == [level]
    assert f"knows {100 - unknown} of 100 words" in caplog.text


def test_more_than_half_unknown_is_refused_unless_accepted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = Words().coverage(Counter({"the": 1, "MILL": 2}))
    with pytest.raises(InputError, match=r"knows 1 of 3 words .*--normalise lower, or --accept-un"):
        check_coverage(found, "list", "lm", Words())
    check_coverage(found, "list", "lm", Words(), accept=True)
    assert "MILL" in caplog.text


def test_words_that_the_decoder_did_not_know_are_counted_apart() -> None:
    found = Coverage.of("<unk>", 3, special=True, unknown=True)
    found += Coverage.of("[noise]", 2, dropped=True)
    assert (found.share, found.special, found.dropped) == (0.0, 3, 2)
    assert "3 unknown to the decoder" in found.summary()


def test_an_lm_of_words_is_doubted_where_words_have_no_spaces(
    caplog: pytest.LogCaptureFixture,
) -> None:
    check_coverage(Coverage.of("今天", 2), "list", "lm", Words())
    assert "script without spaces" in caplog.text
    caplog.clear()
    check_coverage(Coverage.of("today", 2), "list", "lm", Words())
    assert not caplog.text
