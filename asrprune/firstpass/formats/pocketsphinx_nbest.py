"""n-best lists that pocketsphinx writes with ``-nbestdir``: words, then the total score."""

from __future__ import annotations

import math
from collections.abc import Iterator

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
from asrprune.firstpass.on_bad import REFUSE, NothingFoundError, OnBad, empty_list
from asrprune.firstpass.reading.folders import utterance_files
from asrprune.firstpass.reading.numbers import log_score
from asrprune.firstpass.reading.words import plain_word

LN_BASE = math.log(1.0001)


def read_pocketsphinx_nbest(path: PathLike, bad: OnBad = REFUSE) -> Iterator[NBest]:
    """Yield the list of one file, or of every file of a folder; the id is the file's name.

    A line is ``words score``; the score, a log to base 1.0001, is a total (acoustic, LM and
    penalties): it is read as the acoustic score, LM None. ``(null)`` is the empty hypothesis.
    ``bad`` decides what becomes of a file without lines. Raises InputError with the line for a
    line without a score.
    """
    for utt, file in utterance_files(path, "", ".nbest", ".hyp"):
        hyps = []
        for number, line in read_lines(file):
            fields = line.split() or [""]
            try:
                score = LN_BASE * log_score(fields[-1])
            except ValueError as problem:
                found = f"utterance {utt}: {problem}"
                raise InputError(file, number, found, "words and a score") from None
            words = [] if fields[:-1] == ["(null)"] else [plain_word(word) for word in fields[:-1]]
            hyps.append(Hypothesis(" ".join(word for word in words if word), score))
        if not hyps:
            yield from bad(NothingFoundError(file, None, empty_list(utt), "no hypothesis"))
            continue
        yield NBest(utt, tuple(hyps))
