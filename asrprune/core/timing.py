"""How long a step took for how much audio: timings add up, rates are computed at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Timing:
    """``wall_s`` seconds of work on ``audio_s`` seconds of audio (None: unknown).

    ``tokens`` counts predicted LM tokens over all hypotheses, ``unique_tokens`` what is left of
    them once equal prefixes are merged; both 0 for work that predicts none.
    """

    wall_s: float = 0.0
    audio_s: Optional[float] = 0.0
    tokens: int = 0
    unique_tokens: int = 0

    def __post_init__(self) -> None:
        for name in ("wall_s", "audio_s", "tokens", "unique_tokens"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; expected >= 0")

    def __add__(self, other: Timing) -> Timing:
        """The sum; its audio is unknown as soon as one term's is."""
        known = self.audio_s is not None and other.audio_s is not None
        return Timing(
            self.wall_s + other.wall_s,
            self.audio_s + other.audio_s if known else None,  # type: ignore[operator]
            self.tokens + other.tokens,
            self.unique_tokens + other.unique_tokens,
        )

    @property
    def rtf(self) -> Optional[float]:
        """Real-time factor, wall seconds / audio seconds; None where the audio is unknown or 0.

        >>> Timing(wall_s=2.0, audio_s=10.0).rtf
        0.2
        """
        return self.wall_s / self.audio_s if self.audio_s else None

    @property
    def tokens_per_s(self) -> Optional[float]:
        """Predicted tokens per wall second; None for work that took no time."""
        return self.tokens / self.wall_s if self.wall_s else None

    @property
    def unique_ratio(self) -> Optional[float]:
        """``unique_tokens / tokens``: the part of the work left by prefix sharing; None without
        tokens."""
        return self.unique_tokens / self.tokens if self.tokens else None
