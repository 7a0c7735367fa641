"""Why references and hypotheses do not fit each other: what scorers meet, and the option for it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Optional

from asrprune.core.composition import nfc
from asrprune.core.units import WORD, unspaced_words
from asrprune.wer.form import (
    count_hyphens,
    drop_punctuation,
    drop_tags,
    fold_case,
    join_hyphens,
    split_hyphens,
)

THRESHOLD = 0.05
"""A difference of form is told when it alone makes more than this share of the words wrong."""

Pairs = list[tuple[str, str]]
_BRACES, _SLASH = re.compile(r"(?<!\S)\{\s([^{}]*)\}"), re.compile(r"\s/\s")
_FEW = 20
"""Rules for ids that are tried."""


@dataclass(frozen=True)
class _Remedy:
    """``option`` does ``change``; ``cause`` says of two texts what differs between them."""

    option: str
    change: Callable[[str], str]
    cause: Callable[[str, str], str]


def hints(
    refs: Mapping[str, str], hyps: Mapping[str, str], unit: str = WORD, scorer: bool = True
) -> list[str]:
    """Likely causes of errors that are none of the recogniser's, each with the option for it; where
    the verb is no ``scorer``, and has none of them, with what is to be done before.

    Both are id -> text, as they are scored; only ids of both are looked at. A cause is named when
    its remedy would spare more than THRESHOLD of the reference words an error at least.
    """
    pairs = [(text, hyps[utt]) for utt, text in refs.items() if utt in hyps]
    whole_ref = " ".join(ref for ref, _ in pairs)
    whole_hyp = " ".join(hyp for _, hyp in pairs)
    total = len(whole_ref.split())
    if not total:
        return []
    found = []
    now = least_errors(pairs)
    for remedy in _REMEDIES:
        changed = [(remedy.change(ref), remedy.change(hyp)) for ref, hyp in pairs]
        spared = now - least_errors(changed)
        cause = remedy.cause(whole_ref, whole_hyp) if spared > THRESHOLD * total else ""
        if cause:
            share = 100.0 * spared / total
            found.append(
                f"{cause}: that alone makes {share:.0f} % of the reference words errors; "
                f"{_advice(remedy.option, scorer)}"
            )
            pairs, now = changed, now - spared
    found += _script_hint(whole_ref, whole_hyp, scorer)
    if unit == WORD:
        found += _unit_hint(whole_ref)
    if any(_SLASH.search(one) for one in _BRACES.findall(whole_ref)):
        advice = "see --alternations" if scorer else "write one reading (wer has --alternations)"
        found.append(f"references hold {{ a / b }}, scored as words; {advice}")
    return found


def _advice(option: str, scorer: bool) -> str:
    return f"see {option}" if scorer else f"write both in one form first (wer has {option})"


def id_hint(missing: Collection[str], unknown: Collection[str]) -> Optional[str]:
    """How the ids of references without a hypothesis differ from those of hypotheses without a
    reference, where one rule explains most of them; None otherwise.

    >>> id_hint(["u1", "u2"], ["U1", "U2"])
    'ids differ in case, as u1 and U1'
    >>> id_hint(["a-1", "a-2"], ["set-a-1", "set-a-2"])
    "ids of the hypotheses begin with 'set-'"
    """
    if not missing or not unknown:
        return None
    needed = max(1, (min(len(missing), len(unknown)) + 1) // 2)
    folded = {utt.casefold(): utt for utt in unknown}
    same = [utt for utt in missing if utt.casefold() in folded]
    if len(same) >= needed:
        return f"ids differ in case, as {same[0]} and {folded[same[0].casefold()]}"
    for longer, shorter, whose in (
        (unknown, missing, "hypotheses"),
        (missing, unknown, "references"),
    ):
        for place, ends in (("begin", str.endswith), ("end", str.startswith)):
            extra = _common_extra(longer, shorter, place, ends, needed)
            if extra is not None:
                return f"ids of the {whose} {place} with {extra!r}"
    return None


def _common_extra(
    longer: Collection[str],
    shorter: Collection[str],
    place: str,
    ends: Callable[[str, str], bool],
    needed: int,
) -> Optional[str]:
    """What is put before ("begin") or behind most ids of ``shorter`` to make one of ``longer``."""
    first = next(iter(shorter))
    known = frozenset(longer)
    tried: set[str] = set()
    for candidate in longer:
        if candidate != first and ends(candidate, first) and len(tried) < _FEW:
            cut = len(candidate) - len(first)
            extra = candidate[:cut] if place == "begin" else candidate[-cut:]
            if extra in tried:
                continue
            tried.add(extra)
            made = [extra + utt if place == "begin" else utt + extra for utt in shorter]
            if sum(utt in known for utt in made) >= needed:
                return extra
    return None


def least_errors(pairs: Iterable[tuple[str, str]]) -> int:
    """Errors of (reference, hypothesis) ``pairs`` that no alignment can avoid: words of one side
    that the other does not have."""
    total = 0
    for ref, hyp in pairs:
        words, other = Counter(ref.split()), Counter(hyp.split())
        total += max(sum((words - other).values()), sum((other - words).values()))
    return total


def _case_cause(ref: str, hyp: str) -> str:
    cases = [_case(ref), _case(hyp)]
    if cases[0] != cases[1]:
        return f"references are {cases[0]}, hypotheses {cases[1]}"
    return "references and hypotheses differ in case"


def _case(text: str) -> str:
    upper, lower = sum(map(str.isupper, text)), sum(map(str.islower, text))
    if upper > 9 * lower:
        return "upper case"
    return "lower case" if lower > 50 * upper else "mixed case"


def _form_cause(ref: str, hyp: str) -> str:
    """Differences that are not seen: composed letters, zero-width characters."""
    for letter, name in _INVISIBLE.items():
        if (letter in ref) != (letter in hyp):
            return f"only the {'references' if letter in ref else 'hypotheses'} hold {name}"
    return "references and hypotheses are in different Unicode forms (NFC, NFD)"


def _counter(pattern: str) -> Callable[[str], int]:
    search = re.compile(pattern).findall
    return lambda text: len(search(text))


def _one_sided(what: str, count: Callable[[str], int]) -> Callable[[str, str], str]:
    def cause(ref: str, hyp: str) -> str:
        counts = count(ref), count(hyp)
        if counts[0] > 4 * counts[1]:
            return f"only the references have {what}"
        if counts[1] > 4 * counts[0]:
            return f"only the hypotheses have {what}"
        return f"references and hypotheses have {what} in different places"

    return cause


_PUNCTUATION = r"[.,;:!?\u00bf\u00a1\u201c\u201d\u3001\u3002\uff0c\uff1f\uff01\u0964]"
_INVISIBLE = {
    "\u200b": "zero-width spaces (U+200B)",
    "\u200c": "zero-width non-joiners (U+200C)",
    "\u200d": "zero-width joiners (U+200D)",
    "\u00ad": "soft hyphens (U+00AD)",
    "\ufeff": "byte-order marks (U+FEFF)",
}


def _visible(text: str) -> str:
    return nfc(text.translate(dict.fromkeys(map(ord, _INVISIBLE))))


_REMEDIES = (
    _Remedy("--filter CMD, which rewrites both", _visible, _form_cause),
    _Remedy("--ignore-case", fold_case, _case_cause),
    _Remedy(
        "--remove-tags",
        drop_tags,
        _one_sided("tags like <unk> or [noise]", _counter(r"<[^\s<>]+>|\[[^\s\[\]]+\]")),
    ),
    _Remedy(
        "--ignore-punctuation",
        drop_punctuation,
        _one_sided("punctuation", _counter(_PUNCTUATION)),
    ),
    _Remedy("--hyphens split", split_hyphens, _one_sided("hyphens", count_hyphens)),
    _Remedy("--hyphens join", join_hyphens, _one_sided("hyphens", count_hyphens)),
)


def _script(text: str) -> Optional[str]:
    """The script of most letters, by the first word of their Unicode names."""
    sample = [letter for letter in text if letter.isalpha()][:20_000]
    names = Counter(unicodedata.name(letter, "").partition(" ")[0] for letter in sample)
    return names.most_common(1)[0][0] if names else None


def _script_hint(ref: str, hyp: str, scorer: bool) -> list[str]:
    one, other = _script(ref), _script(hyp)
    # Japanese is written in three of them
    japanese = {"CJK", "HIRAGANA", "KATAKANA"}
    if one is None or other is None or one == other or {one, other} <= japanese:
        return []
    names = (one.title() if one != "CJK" else "Han", other.title() if other != "CJK" else "Han")
    return [
        f"references are mostly {names[0]} letters, hypotheses {names[1]}: no word can be right; "
        + ("see --filter CMD to write both in one script" if scorer else "write both in one script")
    ]


def _unit_hint(ref: str) -> list[str]:
    """Text without spaces between words, scored by word."""
    words, letters = unspaced_words(ref)
    if words and letters > 0.5 * sum(map(str.isalpha, ref)) and letters > 1.2 * words:
        return [
            "most letters are of a script without spaces between words (Han, kana, Thai, ...), and "
            "what stands between spaces is compared whole; see --unit char"
        ]
    return []
