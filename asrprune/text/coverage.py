"""How much of a text an LM knows, and why it does not know the rest."""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol

from asrprune.core.units import WORD, unspaced_words
from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.text.form import TextForm
from asrprune.text.normalise import NORMALISERS

WARN_ABOVE, REFUSE_ABOVE = 0.05, 0.50
"""Share of unknown words that is warned of, and that is refused."""

_ENOUGH = 0.5  # of the unknown words explained by a cause
_SHOWN = 5

log = logging.getLogger(__name__)


@dataclass
class Coverage:
    """Counts of words; adds up.

    ``unknown``: words with something that the LM cannot spell, or that an n-gram does not have;
    ``in_bytes``: other words that are spelled in bytes; ``special``: words that a decoder wrote for
    an unknown one (``<unk>``); ``dropped``: words that the LM does not see (noises, punctuation).
    ``unspaced``: words with letters of a script without spaces (Han, kana, Thai, ...).
    ``which``: the unknown ones and those in bytes, as they came, with counts; ``outside``: their
    characters that the LM has no piece for.
    """

    words: int = 0
    unknown: int = 0
    in_bytes: int = 0
    special: int = 0
    dropped: int = 0
    unspaced: int = 0
    which: Counter[str] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(
        cls,
        word: str,
        count: int,
        *,
        dropped: bool = False,
        special: bool = False,
        unknown: bool = False,
        spelled_in_bytes: bool = False,
        outside: Collection[str] = (),
    ) -> Coverage:
        """That of one word that comes ``count`` times."""
        unknown = unknown and not special
        spelled_in_bytes = spelled_in_bytes and not unknown
        one = cls(count)
        one.dropped, one.special = dropped * count, special * count
        one.unspaced = count if unspaced_words(word)[0] else 0
        one.unknown, one.in_bytes = unknown * count, spelled_in_bytes * count
        if unknown or spelled_in_bytes:
            one.which[word] = count
            one.outside.update(dict.fromkeys(outside, count))
        return one

    def __iadd__(self, other: Coverage) -> Coverage:
        for name in ("words", "unknown", "in_bytes", "special", "dropped", "unspaced"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.which.update(other.which)
        self.outside.update(other.outside)
        return self

    @property
    def share(self) -> float:
        """Unknown words and words in bytes, from 0 to 1; 0 for no words."""
        return (self.unknown + self.in_bytes) / self.words if self.words else 0.0

    def summary(self) -> str:
        """The counts in one line."""
        lacking = self.unknown + self.in_bytes
        text = f"the LM knows {self.words - lacking} of {self.words} words"
        text += f" ({100 * (1 - self.share):.1f} %)"
        parts = [
            f"{count} {what}"
            for count, what in (
                (self.unknown, "unknown"),
                (self.in_bytes, "spelled in bytes"),
                (self.special, "unknown to the decoder (<unk>)"),
                (self.dropped, "that it does not see (noises, punctuation)"),
            )
            if count
        ]
        return ": ".join([text, ", ".join(parts)]) if parts else text

    def examples(self) -> str:
        """The most frequent unknown words."""
        words = ", ".join(repr(word) for word, _ in self.which.most_common(_SHOWN))
        return words + (", ..." if len(self.which) > _SHOWN else "")

    def to_json(self) -> dict[str, Any]:
        """The counts."""
        names = ("words", "unknown", "in_bytes", "special", "dropped")
        return {name: getattr(self, name) for name in names}


class Spelling(Protocol):
    """What an LM makes of words."""

    @property
    def form(self) -> TextForm:
        """The form that they are put into."""

    def coverage(self, words: Mapping[str, int]) -> Coverage:
        """How much of the words (word -> how often) the LM knows."""

    def knows(self, word: str) -> bool:
        """Whether the LM has or can spell a word as it stands, whatever form it wants."""


def check_coverage(
    coverage: Coverage, path: PathLike, lm: str, spelling: Spelling, accept: bool = False
) -> None:
    """Log how much of the words of ``path`` the LM called ``lm`` knows; warn above WARN_ABOVE.

    Raises InputError above REFUSE_ABOVE unless ``accept``.
    """
    text = f"{path}: {lm}: {coverage.summary()}"
    if spelling.form.unit == WORD and coverage.unspaced > _ENOUGH * coverage.words:
        log.warning(
            "%s: most words are of a script without spaces, and %s takes what stands between "
            "spaces for a word: text that is segmented in another way has other scores (not so for "
            "an LM of tokenize --unit mixed or char)",
            path,
            lm,
        )
    if coverage.share <= WARN_ABOVE:
        log.info("%s", text)
        return
    cause, remedy = likely_cause(coverage, spelling.knows)
    text += f", as {coverage.examples()}"
    found = f"{text}; its text form is {spelling.form.stated()}; likely cause: {cause}"
    if coverage.share > REFUSE_ABOVE and not accept:
        raise InputError(
            path, None, found.removeprefix(f"{path}: "), f"{remedy}, or --accept-unknown"
        )
    log.warning("%s; %s", found, remedy)


def likely_cause(coverage: Coverage, knows: Callable[[str], bool]) -> tuple[str, str]:
    """Why words are unknown, and what may be done."""
    which = coverage.which
    hidden = _invisible(which)
    if hidden:
        return f"invisible characters ({hidden})", "take them out of the text"
    for name, cause in _CAUSES.items():
        known = {word for word in which if _known_after(name, word, knows)}
        if sum(which[word] for word in known) > _ENOUGH * which.total():
            return cause, f"use --normalise {name}"
    unspaced = sum(count for word, count in which.items() if unspaced_words(word)[0])
    if unspaced > _ENOUGH * which.total():
        cause = "words of a language without spaces, segmented in another way than the LM's text"
        return cause, "use an LM trained with tokenize --unit char or mixed, or segment alike"
    script = _script_outside(coverage)
    if script == "Latin" and any(map(knows, _LATIN)):
        return "letters that the LM's text does not have", "use an LM of this language"
    if script:
        return f"letters of another script ({script})", "use an LM of this language"
    cause = "words of another vocabulary (another language or domain, names)"
    return cause, "use an LM of this language and domain"


_LATIN = "aeiAEI"
"""Words, or letters, of which an LM of Latin script knows one."""

_CAUSES: Mapping[str, str] = {
    "lower": "upper-case letters; the LM's text is in lower case",
    "upper": "lower-case letters; the LM's text is in upper case",
    "asr": "punctuation, digits or upper-case letters that the LM's text does not have",
    "librispeech": "punctuation, digits or lower-case letters that the LM's text does not have",
}
"""Normaliser -> what is the matter when it makes the words known, in the order of trying."""


def _known_after(name: str, word: str, knows: Callable[[str], bool]) -> bool:
    parts = NORMALISERS[name](word).split()
    return parts != [word] and bool(parts) and all(map(knows, set(parts)))


def _invisible(which: Counter[str]) -> str:
    """Names of the characters that cannot be seen, if most of the words have one."""
    unseen = Counter[str]()
    words = 0
    for word, count in which.items():
        here = {c for c in word if unicodedata.category(c) in ("Cf", "Cc", "Zs")}
        unseen.update(dict.fromkeys(here, count))
        words += count * bool(here)
    if words <= _ENOUGH * which.total():
        return ""
    return ", ".join(named(character) for character, _ in unseen.most_common(3))


def named(character: str) -> str:
    """A character's code and name.

    >>> named("\u200b")
    'U+200B ZERO WIDTH SPACE'
    """
    return f"U+{ord(character):04X} {unicodedata.name(character, 'without a name')}"


def _script_outside(coverage: Coverage) -> Optional[str]:
    """The script of most words of which the LM can spell no letter, as Unicode names start."""
    scripts: Counter[str] = Counter()
    for word, count in coverage.which.items():
        letters = [character for character in word if character.isalpha()]
        if letters and all(letter in coverage.outside for letter in letters):
            scripts[unicodedata.name(letters[0], "UNKNOWN").split()[0].split("-")[0]] += count
    if scripts.total() <= _ENOUGH * coverage.which.total():
        return None
    return scripts.most_common(1)[0][0].capitalize()
