"""Kaldi's ``utt2spk``: who says each utterance."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import numpy as np

from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
from asrprune.wer.bootstrap import Speakers
from asrprune.wer.kaldi_text import parse_kaldi_text

log = logging.getLogger(__name__)

FEW = 20
"""Of fewer speakers the bootstrap's intervals are too narrow, as it takes the spread between those
drawn for that of all: of two systems that are equal but for what speakers differ in, drawn 500
times, intervals of 5, 10 and 20 speakers told them apart in 16, 10 and 5 % of the cases."""


def read_utt2spk(path: PathLike) -> Mapping[str, str]:
    """Utterance id -> speaker. Raises InputError as ``read_kaldi_text`` does, and for a line that
    is not two words."""
    found = parse_kaldi_text(path, read_lines(path))
    for utt, (speaker, number) in found.items():
        if speaker.split() != [speaker]:
            raise InputError(path, number, f"utterance {utt}: {speaker!r}", "'utt speaker'")
    return {utt: speaker for utt, (speaker, _) in found.items()}


def number_speakers(
    path: PathLike, utt2spk: Mapping[str, str], utterances: Iterable[str]
) -> Speakers:
    """The number of the speaker of each utterance; a warning for few speakers. Raises InputError
    naming ``path`` for an utterance without one, and when all have the same."""
    numbers: dict[str, int] = {}
    found = []
    for utt in utterances:
        if utt not in utt2spk:
            raise InputError(path, None, f"no speaker of utterance {utt}", "one of every utterance")
        found.append(numbers.setdefault(utt2spk[utt], len(numbers)))
    if len(numbers) < 2:
        known = ", ".join(numbers) or "no speaker"
        raise InputError(path, None, f"one speaker ({known})", "at least 2, who can be drawn")
    if len(numbers) < FEW:
        log.warning(
            "%s: %d speakers: intervals over fewer than %d are too narrow (with 10 about 10 %% of"
            " them miss what they are of, not 5 %%)",
            path,
            len(numbers),
            FEW,
        )
    return np.array(found, np.int64)
