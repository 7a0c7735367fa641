"""Normalisers: what they keep, and that doing it twice changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrprune.text.normalise import NORMALISERS


@pytest.mark.parametrize("name", NORMALISERS)
@given(text=st.text())
def test_idempotent_and_single_spaces(name: str, text: str) -> None:
    once = NORMALISERS[name](text)
    assert NORMALISERS[name](once) == once
    assert once == " ".join(once.split())


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("none", "  A  b\t", "A b"),
        ("lower", "A  B", "a b"),
        ("upper", "a b", "A B"),
        ("asr", "“Don\u2019t,” he said: \u2018twice -- in 1984!", "don't he said twice in"),
        ("asr", "... 42 ' -", ""),
        ("asr", "Cafe\u0301 o'er", "café o'er"),
        ("asr", "it\u00b4s it\uff07s it\u02bcs", "it's it's it's"),
        ("librispeech", "Don\u2019t stop", "DON'T STOP"),
        ("librispeech", "'TIS O'ER TH' HILL", "'TIS O'ER TH' HILL"),
    ],
)
def test_examples(name: str, text: str, expected: str) -> None:
    assert NORMALISERS[name](text) == expected
