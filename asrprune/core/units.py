"""What errors and the word bonus are counted in: words, characters, or both by script."""

from __future__ import annotations

import re
from collections.abc import Callable

from asrprune.core.composition import nfc

Split = Callable[[str], list[str]]
"""A text to its units, in order; none of them is empty or holds white space."""

WORD = "word"
_SPECIAL = r"<[^<>\s]+>|\[[^\[\]\s]+\]|!SIL\b|!NULL\b"
_HAN_OR_KANA = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3041-\u3096\u309d-\u309f"
    "\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9d\U0001b000-\U0001b16f\U00020000-\U000323af"
)
_ATTACHED = "\u3099\u309a\ufe00-\ufe0f\U000e0100-\U000e01ef"  # kana's marks, variation selectors
_CHARACTER = re.compile(rf"{_SPECIAL}|\S")
_PUNCTUATION = (
    "\u3001-\u3003\u3008-\u3020\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff3d\uff5b-\uff65"
)
_ALONE = rf"[{_HAN_OR_KANA}{_PUNCTUATION}][{_ATTACHED}]*"
_BETWEEN_WORDS = re.compile(rf"({_SPECIAL}|{_ALONE})|\s+")
_NO_SPACES = re.compile(rf"[{_HAN_OR_KANA}\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")


def words(text: str) -> list[str]:
    """What stands between white space.

    >>> words("今天 早上 iPhone 15")
    ['今天', '早上', 'iPhone', '15']
    """
    return text.split()


def characters(text: str) -> list[str]:
    """The code points of the text in NFC, without white space.

    As ESPnet's and jiwer's CER count (after the spaces are taken out), and Kaldi's
    ``score_kaldi_cer.sh``, of which is taken that ``<unk>``, ``[noise]`` and ``!SIL`` are one unit
    each. NFC joins Latin letters and kana to their marks; vowel signs of Indic scripts are units of
    their own, as for those tools.

    >>> characters("老师 <unk> Cafe\\u0301")
    ['老', '师', '<unk>', 'C', 'a', 'f', 'é']
    """
    return _CHARACTER.findall(nfc(text))


def mixed(text: str) -> list[str]:
    """Han, kana and Bopomofo by character, everything else (Latin, Hangul, digits) by word.

    The mixed error rate (MER) of code-switched speech is counted in these, and sclite's ``-c
    NOASCII``. Where a word of another script touches Han, it ends. The text is put into NFC.

    >>> mixed("我的iPhone 坏了 한국어 도")
    ['我', '的', 'iPhone', '坏', '了', '한국어', '도']
    """
    return [part for part in _BETWEEN_WORDS.split(nfc(text)) if part]


UNITS: dict[str, Split] = {
    WORD: words,
    "char": characters,
    "mixed": mixed,
}
"""Name -> how a text is cut. But for ``word``, spaces between Han or kana change nothing."""

RATES = {WORD: "WER", "char": "CER", "mixed": "MER"}
"""Name -> what an error rate in these units is called."""

COUNTED = {WORD: "words", "char": "characters", "mixed": "units"}
"""Name -> what messages call the units."""


def in_units(text: str, unit: str) -> str:
    """The units with single spaces between them, to be aligned as words are.

    >>> in_units("今天 早上", "char")
    '今 天 早 上'
    """
    return " ".join(UNITS[unit](text))


def unspaced_words(text: str) -> tuple[int, int]:
    """How many words hold letters of a script without spaces (Han, kana, Thai, Lao, Burmese,
    Khmer), and how many such letters there are.

    >>> unspaced_words("今天 早上 hello")
    (2, 4)
    """
    counts = [len(_NO_SPACES.findall(word)) for word in text.split()]
    return sum(count > 0 for count in counts), sum(counts)
