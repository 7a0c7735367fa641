"""Word error rate with its interval, alone or against a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from asrprune.api.first_pass import check_texts
from asrprune.core.counts import ErrorCounts
from asrprune.core.tables import lookup
from asrprune.core.units import COUNTED, UNITS, WORD, in_units
from asrprune.errors import InputError
from asrprune.wer.bootstrap import (
    FEW,
    REPLICATIONS,
    SEED,
    BootstrapWer,
    Interval,
    PairedComparison,
    Speakers,
    bootstrap_wer,
    compare_scorings,
)
from asrprune.wer.speakers import check_compared, number_speakers
from asrprune.wer.wer import Scoring, score_texts, shared_rows


@dataclass(frozen=True)
class WerResult:
    """Word errors of a set, and how sure their rate is; ``print`` shows it in a line.

    ``scoring`` holds the alignment of every utterance, ``bootstrap`` the figures of the resampling,
    ``comparison`` those of the paired one, if there was a baseline (its ``first`` system).
    """

    scoring: Scoring
    bootstrap: BootstrapWer
    comparison: Optional[PairedComparison] = None

    @property
    def counts(self) -> ErrorCounts:
        """Correct words, substitutions, deletions and insertions of all utterances together."""
        return self.scoring.counts

    @property
    def wer_percent(self) -> float:
        """Errors per 100 reference words."""
        return self.counts.wer_percent

    @property
    def interval(self) -> Interval:
        """The 95 % bootstrap interval of ``wer_percent``: (low, high)."""
        return self.bootstrap.percentile

    def __str__(self) -> str:
        counts, missing = self.counts, len(self.scoring.missing)
        rate, counted = self.scoring.rate, COUNTED[self.scoring.unit]
        of = self.bootstrap if self.comparison is None else self.comparison.second
        few = of.speakers is None and of.utterances < FEW
        text = (
            f"{rate} {counts.wer_percent:.2f} % [{self.interval.low:.2f}, {self.interval.high:.2f}]"
            + (f" (utterances: {of.utterances}, too few for intervals)" if few else "")
            + f", {counts.errors} errors in {counts.words} {counted}"
        )
        if missing:
            whole = missing + sum(one.present for one in self.scoring.utterances)
            text += f" [PARTIAL] {missing} of {whole} utterances missing"
        if self.comparison is not None:
            low, high = self.comparison.interval
            text += (
                f"; {self.comparison.difference_percent:+.2f} [{low:+.2f}, {high:+.2f}] "
                f"against the baseline, p {self.comparison.p_value:.3f}"
            )
            first, second = self.comparison.first, self.comparison.second
            if second.utterances < len(self.scoring.utterances):
                text += (
                    f" [PARTIAL] on the {second.utterances} utterances of both: {rate} "
                    f"{second.wer_percent:.2f}, baseline {first.wer_percent:.2f}"
                )
        return text


def compute_wer(
    refs: Mapping[str, str],
    hyps: Mapping[str, str],
    baseline: Optional[Mapping[str, str]] = None,
    *,
    mode: str = "strict",
    unit: str = WORD,
    speakers: Optional[Mapping[str, str]] = None,
    replications: int = REPLICATIONS,
    seed: int = SEED,
) -> WerResult:
    """The word errors of ``hyps`` against ``refs``, both utterance id -> words.

    The interval is that of resampling whole utterances ``replications`` times, or, with the
    ``speakers`` of the utterances (utterance id -> speaker), whole speakers. With the hypotheses
    of a ``baseline`` the result also compares the two on the same utterances: a difference below 0
    says that ``hyps`` are better. Intervals over fewer than 20 utterances are too narrow, which
    ``print`` says; of one utterance they say nothing. ``mode`` "strict" wants a hypothesis for
    every reference and a reference for every hypothesis; "present" leaves out references without
    one, "all" counts their words as deleted. ``unit`` "char" counts characters without spaces
    (CER), "mixed" Han and kana by character and everything else by word.

    Raises InputError naming the utterances that do not fit, or when no reference word is left;
    TypeError for anything but such mappings; ValueError for an unknown mode or unit.

    >>> import asrprune
    >>> refs = {"utt1": "the cat sat", "utt2": "a dog"}
    >>> result = asrprune.compute_wer(refs, {"utt1": "the cat sad", "utt2": "a dog"})
    >>> result.counts.substitutions, result.wer_percent, result.interval.low
    (1, 20.0, 0.0)
    >>> print(result)
    WER 20.00 % [0.00, 33.33] (utterances: 2, too few for intervals), 1 errors in 5 words
    """
    lookup(UNITS, unit, "unit")
    scoring = _score(refs, hyps, "hyps", mode, unit)
    counts = [one.counts for one in scoring.utterances]
    numbers = _numbers(scoring, speakers)
    bootstrap = bootstrap_wer(counts, replications, seed, numbers)
    comparison = None
    if baseline is not None:
        other = _score(refs, baseline, "baseline", mode, unit)
        shared = shared_rows(other, scoring)
        if not any(scoring.table.words(number) for number in shared[1]):
            found = f"no reference word in the {len(shared[0])} utterances shared with hyps"
            raise InputError("baseline", None, found, "at least one to compare on")
        of_other = _numbers(other, speakers)
        check_compared("speakers", of_other, shared[0])
        comparison = compare_scorings(
            other, scoring, replications, seed, shared=shared, speakers=of_other
        )
    return WerResult(scoring, bootstrap, comparison)


def _numbers(scoring: Scoring, speakers: Optional[Mapping[str, str]]) -> Optional[Speakers]:
    if speakers is None:
        return None
    return number_speakers("speakers", speakers, (one.utt for one in scoring.utterances))


def _score(
    refs: Mapping[str, str], hyps: Mapping[str, str], name: str, mode: str, unit: str
) -> Scoring:
    check_texts("refs", refs)
    check_texts(name, hyps)
    cut, other = ({utt: in_units(text, unit) for utt, text in one.items()} for one in (refs, hyps))
    return score_texts(cut, other, mode, ref_name="refs", hyp_name=name, unit=unit)
