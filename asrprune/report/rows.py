"""One line of the result table: a system with its size, accuracy and speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Weight:
    """A tuned score weight with its 95 % interval, None where that is unknown. ``name`` is
    ``acoustic``, ``first_lm`` or ``word_bonus``, or that of an LM (``is_lm``)."""

    name: str
    value: float
    low: Optional[float] = None
    high: Optional[float] = None
    is_lm: bool = False


@dataclass(frozen=True)
class SystemRow:
    """What is known of one system; None where a column does not apply or was not measured.

    ``kind`` is one of ``first pass``, ``oracle``, ``n-gram``, ``dense``, ``pruned``, ``combined``;
    ``rescored`` of an LM that was not measured, ``unknown`` without a trace of how it was made.
    ``sparsity`` is the measured fraction of prunable parameters removed. ``nonzero`` counts
    parameters that are not zero. ``size_bytes`` is the saved weights file. ``wer_percent`` has the
    bootstrap 95 % interval ``wer_low`` .. ``wer_high``. ``delta_percent`` is the WER minus the
    baseline's with the paired interval and two-sided p. ``wer_fixed_percent`` is the WER at the
    baseline's score weights. ``wer_lists_...`` and ``delta_lists_...`` are the same of words chosen
    from n-best lists, where the others are of words from lattices. ``words`` counts those of the
    reference. ``lm_rtf`` covers LM scoring, ``total_rtf`` everything. ``times_padded``: how many
    times as fast as the padded fp32 batch of the LM ``padded_lm`` scoring with ``engine`` is, the
    median over the repeats, with the smallest and largest ratio ``..._low`` and ``..._high``;
    ``padded_lm_hash`` tells that LM from others of its name. ``measured_with`` is the first system
    whose speed may be compared with its own.
    """

    name: str
    kind: str
    criterion: Optional[str] = None
    method: Optional[str] = None
    schedule: Optional[str] = None
    sparsity: Optional[float] = None
    parameters: Optional[int] = None
    nonzero: Optional[int] = None
    size_bytes: Optional[int] = None
    ppl_word: Optional[float] = None
    wer_percent: Optional[float] = None
    wer_low: Optional[float] = None
    wer_high: Optional[float] = None
    delta_percent: Optional[float] = None
    delta_low: Optional[float] = None
    delta_high: Optional[float] = None
    delta_p: Optional[float] = None
    wer_fixed_percent: Optional[float] = None
    wer_lists_percent: Optional[float] = None
    wer_lists_low: Optional[float] = None
    wer_lists_high: Optional[float] = None
    delta_lists_percent: Optional[float] = None
    delta_lists_low: Optional[float] = None
    delta_lists_high: Optional[float] = None
    delta_lists_p: Optional[float] = None
    words: Optional[int] = None
    lm_rtf: Optional[float] = None
    total_rtf: Optional[float] = None
    engine: Optional[str] = None
    times_padded: Optional[float] = None
    times_padded_low: Optional[float] = None
    times_padded_high: Optional[float] = None
    padded_lm: Optional[str] = None
    padded_lm_hash: Optional[str] = None
    measured_with: Optional[str] = None
    weights: tuple[Weight, ...] = ()
    note: str = ""

    def measured_like(self, other: SystemRow) -> bool:
        """Whether the speeds of both may be compared, as far as is known."""
        names = self.measured_with, other.measured_with
        return None in names or names[0] == names[1]

    def same_yardstick(self, other: SystemRow) -> bool:
        """Whether the padded batches of both are of one LM, as far as is known."""
        hashes = self.padded_lm_hash, other.padded_lm_hash
        same = None in hashes or hashes[0] == hashes[1]
        return self.padded_lm == other.padded_lm and same


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other beats in both coordinates, by rising first coordinate.

    Smaller is better in both. Of equal points the first is kept.

    >>> pareto_front([(3.0, 1.0), (1.0, 2.0), (2.0, 2.5), (1.0, 2.0)])
    [1, 0]
    """
    order = sorted(range(len(points)), key=lambda index: (*points[index], index))
    front: list[int] = []
    best = float("inf")
    for index in order:
        if points[index][1] < best:
            front.append(index)
            best = points[index][1]
    return front
