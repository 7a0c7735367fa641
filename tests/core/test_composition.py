"""NFC of any text, however many marks stand on one letter."""

from __future__ import annotations

import random
import unicodedata

from asrprune.core.composition import nfc

# marks of many classes, with some that are two marks in one, and letters that come apart
MARKS = "\u0301\u0316\u0327\u0344\u0345\u05b0\u0f71\u0f72\u0f73\u3099"
LETTERS = "a\u1ea5\u304b\u0958 "


def test_it_is_what_unicodedata_gives() -> None:
    draw = random.Random(1)
    for _ in range(200):
        runs = [
            draw.choice(LETTERS) + "".join(draw.choices(MARKS, k=draw.randrange(40)))
            for _ in range(draw.choice([3, 90]))
        ]
        text = "".join(runs)
        assert nfc(text) == unicodedata.normalize("NFC", text)
    assert nfc("abc") == "abc"


def test_a_million_marks_on_a_letter() -> None:
    """Takes half an hour where the time grows with the square."""
    text = nfc("a" + "\u0301\u0316" * 500_000)
    assert text == "\u00e1" + "\u0316" * 500_000 + "\u0301" * 499_999
