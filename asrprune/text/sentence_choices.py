"""The forms in which an imported LM can score sentences, for a choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from asrprune.text.form import CASES, TextForm
from asrprune.text.marked import MarkedTokenizer, marked_text
from asrprune.text.sentence import NEWLINE, SENTENCE_FORMS
from asrprune.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class SentenceChoice:
    """One of SENTENCE_FORMS and one of CASES; ``text`` is what a tokeniser's file of it holds, and
    ``form`` the text form with that case."""

    sentence: str
    case: str
    text: str
    form: TextForm

    @property
    def name(self) -> str:
        """As the flags of ``import`` say it."""
        return f"--sentence-form {self.sentence} --case {self.case}"


def sentence_choices(
    pieces: MarkedTokenizer, form: TextForm, words: Sequence[str]
) -> list[SentenceChoice]:
    """The form that the LM has now (``form`` is its text form) first, then the others.

    Left out: newlines that are not one token, ends other than the newline where no other end token
    is stated, and cases in which ``words`` have the same tokens as in one before.
    """
    ends = _ends(pieces)
    now = _sentence_now(pieces)
    others = [one for one in SENTENCE_FORMS if one != now and SENTENCE_FORMS[one].newline in ends]
    cases, seen = [], set()
    for case in (form.case, *(one for one in CASES if one != form.case)):
        tokens = Tokenizer(pieces, replace(form, case=case))
        tokens.learn(words)
        key = tuple((tokens.encode_word(w, True), tokens.encode_word(w, False)) for w in words)
        if key not in seen:
            seen.add(key)
            cases.append(case)
    return [_choice(pieces, form, one, case, ends) for one in (now, *others) for case in cases]


def _choice(
    pieces: MarkedTokenizer, form: TextForm, sentence: str, case: str, ends: dict[bool, int]
) -> SentenceChoice:
    marks, wanted = pieces.marks, SENTENCE_FORMS[sentence]
    changed: dict[str, Any] = {"stop": wanted.stop, "end": ends[wanted.newline]}
    if marks.unknown == marks.end:  # a vocabulary without an unknown piece
        changed["unknown"] = changed["end"]
    stated = replace(form, case=case)
    text = marked_text(pieces.pieces_json, replace(marks, **changed), stated)
    return SentenceChoice(sentence, case, text, stated)


def _ends(pieces: MarkedTokenizer) -> dict[bool, int]:
    """Whether a sentence ends with a newline -> the id of the token that ends it."""
    newline, end = pieces.only_token(NEWLINE), pieces.marks.end
    if newline is None:
        return {False: end}
    return {True: newline} if end == newline else {False: end, True: newline}


def _sentence_now(pieces: MarkedTokenizer) -> str:
    marks = pieces.marks
    ended = marks.end == pieces.only_token(NEWLINE)
    return next(
        name
        for name, one in SENTENCE_FORMS.items()
        if one.newline == ended and bool(one.stop) == bool(marks.stop)
    )
