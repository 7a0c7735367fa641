"""The form in which a language model wants its text, and how a word is brought into it.

It belongs to the LM: a checkpoint states it, an n-gram's vocabulary shows it. A list's or a
lattice's words go through it one by one, so that a sentence reads the same wherever it comes from,
and what is written keeps the words as they came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, Optional

from asrprune.core.config import from_values
from asrprune.core.letter_case import lower_case, upper_case
from asrprune.core.special_words import DROP, KEEP, TREATMENTS, UNKNOWN, treatment
from asrprune.core.tables import lookup
from asrprune.core.units import UNITS, WORD
from asrprune.text.normalise import NORMALISERS, normaliser

CASES = ("mixed", "lower", "upper", "sentence")
"""Letters of the LM's training text: of both cases, of one, into which words are put, or as prose
has them: small ones, a capital at the start of a sentence and in English for the word I."""

_PRONOUN = re.compile(r"^i(?=$|')")


UNKNOWN_WORD = "<unk>"
"""How the LM's unknown word is written in a line of text."""


@dataclass(frozen=True)
class TextForm:
    """``normaliser`` is one of NORMALISERS and ``case`` of CASES; ``language`` (ISO 639-1) matters
    to Turkish and Azerbaijani; ``unit`` is one of UNITS: what the LM takes for a word.

    >>> TextForm("asr").words("Twenty-One"), TextForm(unit="mixed").words("\u4eca\u5929")
    (('twenty', 'one'), ('\u4eca', '\u5929'))
    """

    normaliser: str = "none"
    case: str = "mixed"
    language: Optional[str] = None
    unit: str = WORD

    def __post_init__(self) -> None:
        lookup(NORMALISERS, self.normaliser, "normaliser")
        lookup({name: name for name in CASES}, self.case, "case")
        lookup(UNITS, self.unit, "unit")

    def words(self, word: str) -> tuple[str, ...]:
        """The LM's words of one word of a list; none for what the normaliser takes away."""
        text = normaliser(self.normaliser, self.language)(word)
        if self.case in ("lower", "sentence"):
            text = lower_case(text, self.language)
            if self.case == "sentence" and self.language in (None, "en"):
                text = " ".join(_PRONOUN.sub("I", part) for part in text.split(" "))
        elif self.case == "upper":
            text = upper_case(text, self.language)
        return tuple(UNITS[self.unit](text))

    def to_dict(self) -> dict[str, Optional[str]]:
        """For JSON; ``from_dict`` reads it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> TextForm:
        """Raises ValueError for an unknown key or value."""
        return from_values(cls, value)

    def stated(self) -> str:
        """The form in words, for messages.

        >>> TextForm("asr", language="tr").stated()
        'normaliser asr, language tr'
        """
        parts = [f"normaliser {self.normaliser}"]
        parts += [f"{self.case} case"] if self.case != "mixed" else []
        parts += [f"language {self.language}"] if self.language else []
        parts += [f"unit {self.unit}"] if self.unit != WORD else []
        return ", ".join(parts)


@dataclass(frozen=True)
class TextOptions:
    """What a call says of the LM's text: it goes before what the LM states. None leaves it to the
    LM. ``special``: word -> what the LM makes of it, one of TREATMENTS; ``language``: as that of
    TextForm."""

    normaliser: Optional[str] = None
    special: Mapping[str, str] = field(default_factory=dict)
    language: Optional[str] = None

    def __post_init__(self) -> None:
        for word, what in self.special.items():
            lookup({name: name for name in TREATMENTS}, what, f"treatment of {word}")

    def form(self, stated: TextForm) -> TextForm:
        """The form that holds: a normaliser that is given decides on case as well.

        Raises ValueError for a language where the form leaves letters as they are.
        """
        form = stated
        if self.normaliser is not None:
            form = replace(form, normaliser=self.normaliser, case="mixed")
        if self.language is None:
            return form
        if (form.normaliser, form.case) == ("none", "mixed"):
            raise ValueError(
                f"language {self.language}: the LM's text keeps its letters; expected a normaliser "
                "that changes them, or no language"
            )
        return replace(form, language=self.language)


class Speller:
    """Brings words into the form of an LM, each word once.

    ``known`` says whether the LM has a word of its own for a special word such as ``[noise]``: such
    a word is kept.
    """

    def __init__(
        self,
        form: TextForm,
        special: Mapping[str, str] = MappingProxyType({}),
        known: Callable[[str], bool] = lambda word: False,
    ) -> None:
        self.form = form
        self._special = special
        self._known = known
        self._spelled: dict[str, tuple[Optional[str], ...]] = {}

    def __call__(self, word: str) -> tuple[Optional[str], ...]:
        """The LM's words; None stands for its unknown word."""
        spelled = self._spelled.get(word)
        if spelled is None:
            spelled = self._spelled[word] = self._spell(word)
        return spelled

    def line(self, text: str) -> str:
        """A line of text in the form, single spaces between words, UNKNOWN_WORD for each unknown.

        >>> Speller(TextForm("asr")).line("So <COMMA> [UNK] said: no!")
        'so <unk> said no'
        """
        parts = (part for word in text.split() for part in self(word))
        return " ".join(UNKNOWN_WORD if part is None else part for part in parts)

    def _spell(self, word: str) -> tuple[Optional[str], ...]:
        what = treatment(word, self._special)
        if what == UNKNOWN:
            return (None,)
        if what == KEEP or (what == DROP and word not in self._special and self._keeps(word)):
            return (word,)
        return () if what == DROP else self.form.words(word)

    def _keeps(self, word: str) -> bool:
        return word not in ("<s>", "</s>", "<eps>") and self._known(word)


def capitalised(word: str, language: Optional[str] = None) -> str:
    """The word with its first letter as a capital, unless a digit stands before it.

    >>> capitalised("'tis"), capitalised("i'm"), capitalised("1st")
    ("'Tis", "I'm", '1st')
    """
    place = next((i for i, character in enumerate(word) if character.isalnum()), 0)
    return word[:place] + upper_case(word[place : place + 1], language) + word[place + 1 :]


def case_shown(characters: Iterable[str]) -> str:
    """The case of a text or vocabulary by its letters: "mixed" where both cases occur, or none.

    >>> case_shown("abc'"), case_shown("ABC"), case_shown("Abc"), case_shown("\u4eca\u5929")
    ('lower', 'upper', 'mixed', 'mixed')
    """
    text = "".join(characters)
    upper = any(character.isupper() for character in text)
    lower = any(character.islower() for character in text)
    return "mixed" if upper == lower else "lower" if lower else "upper"
