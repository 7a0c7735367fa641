"""What a first pass found for an utterance: hypotheses with their scores."""

from __future__ import annotations

import hashlib
import math
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.composition import check_characters
from asrprune.core.units import UNITS, WORD

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Hypothesis:
    """One word sequence with its first-pass scores.

    ``text`` holds words separated by single spaces ("" is the empty hypothesis); ``<s>`` and
    ``</s>`` never appear in it. ``acoustic`` and ``lm`` are natural-log scores of the first pass,
    unscaled, higher is better; None means that the decoder did not tell. ``tokens`` are ids of
    the decoder's own units, if it gave any.
    """

    text: str
    acoustic: Optional[float] = None
    lm: Optional[float] = None
    tokens: Optional[tuple[int, ...]] = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise TypeError(f"text is {self.text!r}; expected words with single spaces between")
        check_characters(self.text)
        if self.text != " ".join(self.text.split()):
            start = self.text if len(self.text) <= 60 else self.text[:60] + "..."
            raise ValueError(
                f"text {start!r} has white space other than single spaces between words"
            )
        for name in ("acoustic", "lm"):
            value = getattr(self, name)
            try:
                bad = value is not None and (math.isnan(value) or value == math.inf)
            except TypeError:
                raise TypeError(f"{name} score is {value!r}; expected a number or None") from None
            if bad:
                raise ValueError(f"{name} score is {value}; expected a finite number or -inf")

    @property
    def words(self) -> tuple[str, ...]:
        """The words, () for the empty hypothesis."""
        return tuple(self.text.split())


@dataclass(frozen=True)
class NBest:
    """The hypotheses of one utterance, in the order of the first pass (best first).

    ``audio_s`` is the duration in seconds and ``ref`` the reference transcript, where known.
    ``hyps`` may come from any iterable, and are kept as a tuple.
    """

    utt: str
    hyps: tuple[Hypothesis, ...]
    audio_s: Optional[float] = None
    ref: Optional[str] = None

    def __post_init__(self) -> None:
        if not isinstance(self.utt, str):
            raise TypeError(f"utterance id is {self.utt!r}; expected a string")
        hyps = tuple(self.hyps) if isinstance(self.hyps, Iterable) else (None,)
        if not all(isinstance(hyp, Hypothesis) for hyp in hyps):
            found = f"utterance {self.utt}: hyps are {reprlib.repr(self.hyps)}"
            raise TypeError(f"{found}; expected hypotheses")
        object.__setattr__(self, "hyps", hyps)  # a generator would be empty the second time
        if not self.utt or self.utt.split() != [self.utt]:
            raise ValueError(f"utterance id {self.utt!r} is empty or holds white space")
        if self.audio_s is not None and not (math.isfinite(self.audio_s) and self.audio_s >= 0):
            raise ValueError(f"utterance {self.utt}: audio_s is {self.audio_s}; expected >= 0")

    @property
    def silent(self) -> bool:
        """Whether nothing was heard: the empty hypothesis alone, which needs no scores and has
        none."""
        hyp = self.hyps[0] if len(self.hyps) == 1 else None
        return hyp is not None and (hyp.text, hyp.acoustic, hyp.lm) == ("", None, None)

    @property
    def digest(self) -> str:
        """A hash of the hypotheses' texts in order; a scores file carries it to stay aligned."""
        joined = "\n".join(hyp.text for hyp in self.hyps)
        return hashlib.sha256(f"{len(self.hyps)}\n{joined}".encode()).hexdigest()[:16]


def first_pass_scores(
    hyps: Sequence[Hypothesis], unit: str = WORD
) -> tuple[Floats, Floats, Floats]:
    """Acoustic scores, LM scores (NaN where unknown) and numbers of words (or of another ``unit``
    of UNITS), [H] each."""
    return (
        np.array([np.nan if hyp.acoustic is None else hyp.acoustic for hyp in hyps], np.float64),
        np.array([np.nan if hyp.lm is None else hyp.lm for hyp in hyps], np.float64),
        np.array([len(UNITS[unit](hyp.text)) for hyp in hyps], np.float64),
    )
