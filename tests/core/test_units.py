from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrprune.core.units import UNITS, characters, in_units, mixed, unspaced_words

HAN = st.text(st.sampled_from("我们去图书馆借了三本新书"), max_size=12)


@pytest.mark.parametrize(
    ("text", "chars", "both"),
    [
        ("我 们去 a B c1", "我 们 去 a B c 1", "我 们 去 a B c1"),
        ("カメラを買った", "カ メ ラ を 買 っ た", "カ メ ラ を 買 っ た"),
        ("か\u3099き", "が き", "が き"),  # a voicing mark of its own
        ("한국어 말", "한 국 어 말", "한국어 말"),
        ("e\u0301t\u00e9", "é t é", "été"),
        (
            "用<unk>手机[noise]吧 !SIL",
            "用 <unk> 手 机 [noise] 吧 !SIL",
            "用 <unk> 手 机 [noise] 吧 !SIL",
        ),
        ("2\u00a03\u3000x", "2 3 x", "2 3 x"),
        ("x<y 好，ok", "x < y 好 ， o k", "x<y 好 ， ok"),
        ("𠮷野家", "𠮷 野 家", "𠮷 野 家"),
        ("葛\U000e0100城", "葛 \U000e0100 城", "葛\U000e0100 城"),
        ("", "", ""),
    ],
)
def test_units_by_hand(text, chars, both):
    assert " ".join(characters(text)) == chars
    assert " ".join(mixed(text)) == both


@given(st.lists(HAN, max_size=5))
def test_spaces_in_han_change_nothing(parts):
    for unit in ("char", "mixed"):
        assert in_units(" ".join(parts), unit) == in_units("".join(parts), unit)


@given(st.text(max_size=30))
def test_units_lose_nothing_but_spaces(text):
    for name, split in UNITS.items():
        units = split(text)
        assert all(unit.split() == [unit] for unit in units), name
    assert "".join(characters(text)) == "".join(mixed(text))
    assert in_units(in_units(text, "char"), "char") == in_units(text, "char")


def test_words_of_scripts_without_spaces_are_counted():
    assert unspaced_words("我们去 cafe ไทย") == (2, 6)
    assert unspaced_words("plain words") == (0, 0)
