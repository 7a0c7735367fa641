"""How an LM scores a sentence: what stands around its words, beside the two sentence marks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from asrprune.core.config import from_values

FULL_STOP = "."
NEWLINE = "\n"


@dataclass(frozen=True)
class SentenceMarks:
    """``begin`` and ``end`` are the ids of the tokens around a sentence, ``unknown`` that of a word
    that cannot be spelled (``end`` where the vocabulary has none: it is never likely there).
    ``prompt`` is text behind ``begin`` that is never scored. ``stop`` is text behind the last word,
    without a space before it, that is scored before ``end`` with it.
    ``vocab_size``: rows of the LM's embedding, which may be more than there are pieces.

    Raises ValueError for ids that are none, and for a prompt with a space at its end (the space
    belongs to the first word).
    """

    begin: int
    end: int
    unknown: int
    vocab_size: int
    stop: str = ""
    prompt: str = ""

    def __post_init__(self) -> None:
        for name in ("begin", "end", "unknown"):
            if not 0 <= getattr(self, name) < self.vocab_size:
                found = f"{name} is {getattr(self, name)}"
                raise ValueError(f"{found}; expected an id below {self.vocab_size}")
        check_prompt(self.prompt)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; ``from_dict`` reads it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> SentenceMarks:
        """Raises ValueError for an unknown key or a bad value."""
        return from_values(cls, value)

    @property
    def starts_fresh(self) -> bool:
        """Whether the first word stands at the start of a text or a line, without a space."""
        return not self.prompt or self.prompt.endswith(NEWLINE)


def check_prompt(prompt: str) -> str:
    """The prompt itself. Raises ValueError for one that ends with a space."""
    if prompt.endswith((" ", "\t")):
        found = f"the prompt {prompt[-30:]!r} ends with a space"
        raise ValueError(f"{found}; expected none, as it belongs to the first word")
    return prompt


@dataclass(frozen=True)
class SentenceForm:
    """What a sentence is closed with: ``stop`` behind its last word, then a ``newline`` or else the
    LM's own end token."""

    stop: str = ""
    newline: bool = False


SENTENCE_FORMS: Mapping[str, SentenceForm] = {
    "plain": SentenceForm(),
    "stop": SentenceForm(FULL_STOP),
    "newline": SentenceForm("", newline=True),
    "stop-newline": SentenceForm(FULL_STOP, newline=True),
}
"""Name -> how a sentence ends: with the end token, a full stop before it, or a newline for it."""
