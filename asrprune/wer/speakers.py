"""Kaldi's ``utt2spk``: who says each utterance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional

import numpy as np

from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
from asrprune.wer.bootstrap import Speakers, warn_of_few
from asrprune.wer.kaldi_text import parse_kaldi_text
from asrprune.wer.wer import Rows


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
    warn_of_few(path, len(numbers), "speakers")
    return np.array(found, np.int64)


def check_compared(path: PathLike, speakers: Optional[Speakers], rows: Rows) -> None:
    """Raise InputError naming ``path`` where the utterances ``rows``, those that two systems share,
    are of one of the ``speakers``."""
    if speakers is not None and len(np.unique(speakers[rows])) < 2:
        found = f"one speaker in the {len(rows)} utterances that both systems have"
        raise InputError(path, None, found, "at least 2, who can be drawn")
