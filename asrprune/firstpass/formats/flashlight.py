"""n-best dumps of the wav2letter / flashlight beam-search decoder."""

from __future__ import annotations

import math
from collections.abc import Iterator

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.spool import SpooledSet
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
from asrprune.firstpass.reading.numbers import log_score


def read_flashlight(path: PathLike, lm_base: float) -> Iterator[NBest]:
    """Yield the lists of ``id | total | am | lm | wer | words`` lines, those of an id together.

    ``lm_base`` is the base of the LM scores' logs, which the file does not tell: 10 for KenLM, e
    for a neural LM. Hypotheses are ordered by ``total``, which is then forgotten, ties as in the
    file. Raises InputError with the line for other columns, scores that are no numbers, and an id
    that returns after another.
    """
    if not (lm_base > 0.0 and lm_base != 1.0 and math.isfinite(lm_base)):
        raise ValueError(f"lm_base is {lm_base}; expected a positive number other than 1")
    seen = SpooledSet()
    utt = ""
    hyps: list[tuple[float, Hypothesis]] = []
    for number, line in read_lines(path):
        columns = [column.strip() for column in line.split("|", 5)]
        if len(columns) != 6 or columns[0].split() != columns[:1]:
            found = f"{line[:60]!r}"
            raise InputError(path, number, found, "id | total | am | lm | wer | words")
        if columns[0] != utt:
            if utt:
                yield _ranked(utt, hyps)
            utt, hyps = columns[0], []
            if utt in seen:
                raise InputError(path, number, f"utterance {utt} again", "its lines together")
            seen.add(utt)
        try:
            total, acoustic, lm = (log_score(column) for column in columns[1:4])
            float(columns[4].removesuffix("%"))  # not kept; inf of an empty reference
        except ValueError as problem:
            found = f"utterance {utt}: {problem}"
            raise InputError(path, number, found, "numbers in columns 2 to 5") from None
        text = " ".join(columns[5].split())
        hyps.append((total, Hypothesis(text, acoustic, lm * math.log(lm_base))))
    if not utt:
        raise InputError(path, None, "no utterance", "id | total | am | lm | wer | words")
    yield _ranked(utt, hyps)


def _ranked(utt: str, hyps: list[tuple[float, Hypothesis]]) -> NBest:
    ordered = sorted(hyps, key=lambda pair: -pair[0])
    return NBest(utt, tuple(hyp for _, hyp in ordered))
