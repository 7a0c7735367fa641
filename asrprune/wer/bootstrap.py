"""Confidence interval of a WER and of the difference of two, by resampling utterances or speakers.

Source: M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance
evaluation", ICASSP 2004; the printed lines are those of Kaldi's ``compute-wer-bootci``.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from numbers import Integral
from typing import Any, NamedTuple, Optional

import numpy as np
import numpy.typing as npt

from asrprune.core.counts import ErrorCounts, ErrorTable
from asrprune.wer.wer import Rows, Scoring, shared_rows

REPLICATIONS = 10_000
SEED = 0
FEW = 20
"""Of fewer utterances or speakers the intervals are too narrow, as the spread between those drawn
is taken for that of all. Of two systems that are equal but for what speakers differ in, drawn 500
times, intervals of 5, 10 and 20 speakers told them apart in 16, 10 and 5 % of the cases; those of
as many utterances of LJSpeech (a first pass, a thousand draws) missed the WER of them all in 16, 11
and 8 %."""

log = logging.getLogger(__name__)

_BLOCK_DRAWS = 1 << 20  # utterances drawn at a time: 12 MB

Counts = npt.NDArray[np.int64]
Rates = npt.NDArray[np.float64]
Speakers = npt.NDArray[np.int64]
"""The number of the speaker of each utterance, shape [utterances]: speakers are then drawn, each
with all utterances, since those of a speaker are no independent evidence."""


class Interval(NamedTuple):
    """A 95 % confidence interval, in percent of WER."""

    low: float
    high: float


@dataclass(frozen=True)
class BootstrapWer:
    """How sure a WER is.

    ``wer_percent`` is the WER of the set itself, ``mean_percent`` the mean over the replications.
    ``normal``: mean ± 1.96 standard deviations of the replications, as Kaldi gives it;
    ``percentile``: between the 2.5 % and the 97.5 % quantile of the replications.
    """

    wer_percent: float
    mean_percent: float
    normal: Interval
    percentile: Interval
    utterances: int
    replications: int
    seed: int
    speakers: Optional[int] = None
    """How many there are, where speakers were drawn and not utterances."""

    def kaldi_line(self, name: str, rate: str = "WER") -> str:
        """The line of ``compute-wer-bootci`` for set ``name`` ("Set1"), with its line end."""
        return (
            f"{name}: %{rate} {self.mean_percent:.2f} 95% Conf Interval "
            f"[ {self.normal.low:.2f}, {self.normal.high:.2f} ]\n"
        )

    def percentile_line(self, name: str, rate: str = "WER") -> str:
        """The WER of the set itself with its percentile interval, with its line end."""
        return (
            f"{name}: %{rate} {self.wer_percent:.2f} 95% percentile interval "
            f"[ {self.percentile.low:.2f}, {self.percentile.high:.2f} ]"
            + ("" if self.speakers is None else f" over {self.speakers} speakers")
            + "\n"
        )


@dataclass(frozen=True)
class PairedComparison:
    """Two systems on the same utterances, resampled together.

    ``difference_percent`` = WER of the second minus WER of the first: below 0, the second is
    better; ``interval`` is its 95 % percentile interval.
    ``improvement_probability`` is the share of replications where the second has strictly fewer
    errors (as in Kaldi: a tie is no improvement).
    ``p_value`` is two-sided, for "there is no difference": twice the smaller of (1 + replications
    where the second is no worse) and (1 + replications where it is no better), over
    1 + replications, and at most 1. So it is never 0, is 1 for equal systems, and below 0.05 just
    when ``interval`` leaves out 0 (up to quantile interpolation).
    """

    first: BootstrapWer
    second: BootstrapWer
    difference_percent: float
    interval: Interval
    improvement_probability: float
    p_value: float

    def kaldi_lines(self, rate: str = "WER") -> str:
        """The three lines of ``compute-wer-bootci`` for two systems."""
        return (
            self.first.kaldi_line("Set1", rate)
            + self.second.kaldi_line("Set2", rate)
            + "Probability of Set2 improving Set1: "
            + f"{100.0 * self.improvement_probability:.2f}\n"
        )

    def difference_line(self, first: str, second: str, rate: str = "WER") -> str:
        """The difference with its interval and the p value, with its line end, between systems that
        are called ``first`` and ``second``."""
        return (
            f"{second} - {first}: %{rate} {self.difference_percent:+.2f} 95% percentile interval "
            f"[ {self.interval.low:+.2f}, {self.interval.high:+.2f} ], "
            f"two-sided p {self.p_value:.4f}\n"
        )


def warn_of_few(name: object, count: int, drawn: str = "utterances") -> None:
    """Log a warning that names the set (or the file) where ``count`` of ``drawn`` is below FEW."""
    if count == 1:
        log.warning("%s: one utterance: its interval and p value say nothing", name)
    elif count < FEW:
        log.warning(
            "%s: %d %s: intervals over fewer than %d are too narrow (with 10 about 10 %% of"
            " them miss what they are of, not 5 %%)",
            name,
            count,
            drawn,
            FEW,
        )


def bootstrap_wer(
    counts: Collection[ErrorCounts],
    replications: int = REPLICATIONS,
    seed: int = SEED,
    speakers: Optional[Speakers] = None,
) -> BootstrapWer:
    """The confidence interval of the WER over ``counts``, one entry an utterance.

    A replication draws as many utterances (or ``speakers``) as there are, with replacement; one
    without a single reference word has no WER and is drawn again. The same seed gives the same
    answer. Raises ValueError without reference words, for fewer than 2 replications or speakers.
    """
    columns = _columns(_errors_and_words(counts))
    drawn = _by_speaker(columns, speakers)
    sums = _resample(drawn, replications, seed)
    return _interval_of(columns, sums, seed, None if speakers is None else drawn.shape[1])


def compare_paired(
    first: Mapping[str, ErrorCounts],
    second: Mapping[str, ErrorCounts],
    replications: int = REPLICATIONS,
    seed: int = SEED,
    alternatives: bool = False,
) -> PairedComparison:
    """The comparison of two systems whose counts are keyed by utterance id.

    Raises ValueError when the two do not hold the same utterances with as many reference words
    (which references with ``alternatives`` need not have), without reference words, and for fewer
    than 2 replications.
    """
    if first.keys() != second.keys():
        odd = sorted(first.keys() ^ second.keys())[0]
        raise ValueError(f"utterance {odd} is in one of the two systems only")
    for utt, counts in first.items():
        if counts.words != second[utt].words and not alternatives:
            raise _other_words(utt, counts.words, second[utt].words)
    one = _errors_and_words(list(first.values()))
    other = _errors_and_words([second[utt] for utt in first])
    return _compared(one, other, replications, seed)


def _compared(
    first: Counts,
    second: Counts,
    replications: int,
    seed: int,
    speakers: Optional[Speakers] = None,
) -> PairedComparison:
    """The comparison of two systems given errors and reference words of each utterance."""
    columns = _columns(first, second)
    drawn = _by_speaker(columns, speakers)
    sums = _resample(drawn, replications, seed)
    errors_1, errors_2, words_2, words_1 = sums
    # with the same words twice this is exact: (e2 - e1) / w
    across = errors_2 * words_1 - errors_1 * words_2
    rates: Rates = 100.0 * (across / words_1) / words_2
    no_worse = int(np.count_nonzero(across <= 0))
    no_better = int(np.count_nonzero(across >= 0))
    count = None if speakers is None else drawn.shape[1]
    first_wer, second_wer = (
        _interval_of(columns[rows], sums[rows], seed, count) for rows in ([0, 3], [1, 2])
    )
    total_1, total_2, total_words_2, total_words_1 = columns.sum(axis=1)
    total_across = total_2 * total_words_1 - total_1 * total_words_2
    return PairedComparison(
        first=first_wer,
        second=second_wer,
        difference_percent=float(100.0 * (total_across / total_words_1) / total_words_2),
        interval=_percentile_interval(rates),
        improvement_probability=float(np.mean(across < 0)),
        p_value=min(1.0, 2.0 * (1 + min(no_worse, no_better)) / (1 + replications)),
    )


def compare_scorings(
    first: Scoring,
    second: Scoring,
    replications: int = REPLICATIONS,
    seed: int = SEED,
    alternatives: bool = False,
    shared: Optional[tuple[Rows, Rows]] = None,
    speakers: Optional[Speakers] = None,
) -> PairedComparison:
    """The comparison of two scorings over the utterances that both hold (as in Kaldi).

    Utterances drop out in mode ``present`` only. ``shared``: what ``shared_rows`` says of the two,
    if it was asked already. ``speakers`` are those of ``first``'s utterances. Raises as
    ``compare_paired`` and, for fewer than 2 speakers, ``bootstrap_wer`` do.
    """
    rows = shared_rows(first, second) if shared is None else shared
    one = _errors_and_words(first.table)[:, rows[0]]
    other = _errors_and_words(second.table)[:, rows[1]]
    odd = np.flatnonzero(one[1] != other[1])
    if len(odd) and not alternatives:
        utt = next(islice(first.utterances, int(rows[0][odd[0]]), None)).utt
        raise _other_words(utt, int(one[1, odd[0]]), int(other[1, odd[0]]))
    of_shared = None if speakers is None else speakers[rows[0]]
    return _compared(one, other, replications, seed, of_shared)


def _other_words(utt: str, first: int, second: int) -> ValueError:
    return ValueError(
        f"utterance {utt} has {first} reference words in the first system and {second} in the "
        "second"
    )


def _errors_and_words(counts: Collection[ErrorCounts]) -> Counts:
    """Errors and reference words of each utterance: [2, utterances]."""
    table = counts if isinstance(counts, ErrorTable) else ErrorTable(counts)
    correct, *errors = np.array(table.values, np.int64).reshape(-1, 4).T
    substitutions, deletions, insertions = errors
    return np.stack([substitutions + deletions + insertions, correct + substitutions + deletions])


def _columns(*systems: Counts) -> Counts:
    """Errors of each system, then reference words from the last system to the first:
    [2 x systems, utterances]."""
    rows = [one[0] for one in systems] + [one[1] for one in reversed(systems)]
    columns: Counts = np.stack(rows)
    if (columns[len(systems) :].sum(axis=1) == 0).any():
        raise ValueError(f"{columns.shape[1]} utterances with 0 reference words; need at least 1")
    return columns


def _by_speaker(columns: Counts, speakers: Optional[Speakers]) -> Counts:
    """``columns``, added up over the utterances of each speaker: [2 x systems, speakers]."""
    if speakers is None:
        return columns
    names, where = np.unique(speakers, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"utterances of {len(names)} speaker; expected at least 2")
    sums: Counts = np.zeros((len(columns), len(names)), np.int64)
    np.add.at(sums.T, where, columns.T)
    return sums


def _resample(columns: Counts, replications: int, seed: int) -> Counts:
    """Sums of ``columns`` over drawn utterances (or speakers): [2 x systems, replications]."""
    for name, value, least in (("replications", replications, 2), ("seed", seed, 0)):
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} is {value}; expected a whole number, at least {least}")
    generator = np.random.default_rng(seed)
    size = columns.shape[1]
    sums: Counts = np.zeros((columns.shape[0], replications), dtype=np.int64)
    todo = np.arange(replications)
    block = max(1, _BLOCK_DRAWS // size)
    while todo.size:
        for start in range(0, todo.size, block):
            where = todo[start : start + block]
            drawn = generator.integers(size, size=(where.size, size), dtype=np.int32)  # [b, utt]
            for row, values in zip(sums, columns):
                row[where] = values[drawn].sum(axis=1)  # [b]
        todo = np.flatnonzero((sums[len(sums) // 2 :] == 0).any(axis=0))
    return sums


def _interval_of(columns: Counts, sums: Counts, seed: int, speakers: Optional[int]) -> BootstrapWer:
    """The interval of one system from its (errors, words) rows; ``speakers`` is how many there are,
    where they were drawn."""
    rates: Rates = 100.0 * sums[0] / sums[1]
    mean, spread = float(rates.mean()), float(1.96 * rates.std())
    errors, words = columns.sum(axis=1)
    return BootstrapWer(
        wer_percent=float(100.0 * errors / words),
        mean_percent=mean,
        normal=Interval(mean - spread, mean + spread),
        percentile=_percentile_interval(rates),
        utterances=columns.shape[1],
        replications=sums.shape[1],
        seed=seed,
        speakers=speakers,
    )


def _percentile_interval(rates: npt.NDArray[Any]) -> Interval:
    low, high = np.quantile(rates, [0.025, 0.975])
    return Interval(float(low), float(high))
