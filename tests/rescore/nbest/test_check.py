"""Lists and references are looked at before LMs are scored."""

from __future__ import annotations

import logging
import re
from dataclasses import replace

import pytest

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.errors import InputError
from asrprune.rescore.nbest.check import check_lists

LINES = ["it was a dark night", "rain fell in torrents", "except at intervals"]
REFS = {f"u{number}": line for number, line in enumerate(LINES)}


def lists() -> list[NBest]:
    """The second hypothesis of each is right."""
    return [
        NBest(utt, (Hypothesis(f"{text[:-1]}x", -1.0, -2.0), Hypothesis(text, -2.0, -3.0)))
        for utt, text in REFS.items()
    ]


def without(score: str, utt: int, hyp: int) -> list[NBest]:
    """The lists without one score."""
    found = lists()
    hyps = list(found[utt].hyps)
    hyps[hyp] = replace(hyps[hyp], **{score: None})
    found[utt] = replace(found[utt], hyps=tuple(hyps))
    return found


def check(found: list[NBest], refs: dict[str, str], unit: str = "word", every: bool = True) -> str:
    """The line that says what is wrong; "" where all is right."""
    try:
        assert check_lists("n-best", found, "text", refs, unit, every) == [one.utt for one in found]
    except InputError as problem:
        return str(problem)
    return ""


def test_what_later_verbs_take_is_right(caplog: pytest.LogCaptureFixture) -> None:
    assert check(lists(), REFS) == ""
    bare = [
        replace(one, hyps=tuple(replace(hyp, lm=None, acoustic=None) for hyp in one.hyps))
        for one in lists()
    ]
    assert check(bare, REFS) == ""
    single = without("lm", 1, 1)
    single[1] = replace(single[1], hyps=single[1].hyps[1:])
    assert check(single, REFS) == ""
    assert not caplog.records


@pytest.mark.parametrize(("score", "name"), [("acoustic", "acoustic"), ("lm", "LM")])
def test_scores_of_some_hypotheses(score: str, name: str) -> None:
    for utt, hyp in ((0, 0), (1, 1), (2, 0)):
        line = f"n-best: utterance u{utt}: no {name} score of hypothesis {hyp + 1}; expected one"
        assert check(without(score, utt, hyp), REFS).startswith(line)


def test_utterances_of_one_side() -> None:
    assert (
        check(lists(), {"u0": "it"}) == "text: no reference of u1; expected one for each of n-best"
    )
    more = {**REFS, "b": "it", "a": "it"}
    line = "n-best: no list of a and 1 more; expected one for each reference of text"
    assert check(lists(), more) == line
    assert check(lists(), more, every=False) == ""
    del more["b"]
    assert check(lists(), more).startswith("n-best: no list of a; expected")
    empty = [replace(one, hyps=()) for one in lists()]
    assert check(empty, REFS) == "n-best: u0: no hypothesis; expected one at least"


def test_forms_that_differ(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    upper = {utt: text.upper() for utt, text in REFS.items()}
    for unit in ("word", "char"):
        line = check(lists(), upper, unit)
        assert re.match(
            "n-best: references are upper case, hypotheses lower case: that alone", line
        )
        assert line.endswith("; expected the form of text")
    assert "--ignore-case" in line
    caplog.clear()
    title = {utt: text.capitalize() for utt, text in REFS.items()}  # a word in four
    assert check(lists(), title) == ""
    assert "n-best: references are mixed case, hypotheses lower case" in caplog.text
    caplog.clear()
    other = dict.fromkeys(REFS, "nothing of that")  # a bad first pass is none of another form
    assert check(lists(), other) == ""
    assert not caplog.records
