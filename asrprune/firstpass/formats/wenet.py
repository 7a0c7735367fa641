"""n-best lists of WeNet's ``decoder_main --output_nbest``."""

from __future__ import annotations

from collections.abc import Iterator

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.spool import SpooledSet
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
from asrprune.firstpass.reading.numbers import log_score


def read_wenet(path: PathLike) -> Iterator[NBest]:
    """Yield the lists of a result file: ``wav utt``, then ``candidate score sentence`` lines.

    The score is a total, read as the acoustic score; LM None. WeNet leaves out empty sentences:
    an utterance without candidates has the empty hypothesis, without scores. Raises InputError
    with the line for other lines, and for an utterance that comes twice.
    """
    seen = SpooledSet()
    utt = ""
    hyps: list[Hypothesis] = []
    for number, line in read_lines(path):
        fields = line.split()
        if len(fields) == 2 and fields[0] == "wav":
            if utt:
                yield NBest(utt, tuple(hyps) or (Hypothesis(""),))
            utt, hyps = fields[1], []
            if utt in seen:
                raise InputError(path, number, f"utterance {utt} again", "each utterance once")
            seen.add(utt)
        elif len(fields) >= 2 and fields[0] == "candidate" and utt:
            try:
                hyps.append(Hypothesis(" ".join(fields[2:]), log_score(fields[1])))
            except ValueError as problem:
                found = f"utterance {utt}: {problem}"
                raise InputError(path, number, found, "candidate score sentence") from None
        else:
            found = f"{line[:40]!r}"
            raise InputError(path, number, found, "wav utt, or candidate score sentence")
    if not utt:
        raise InputError(path, None, "no utterance", "wav utt and candidate lines")
    yield NBest(utt, tuple(hyps) or (Hypothesis(""),))
