"""n-best lists of SRILM, one file an utterance: Decipher's two formats and the plain one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.spool import SpooledSet
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines, write_text
from asrprune.firstpass.on_bad import REFUSE, NothingFoundError, OnBad, empty_list
from asrprune.firstpass.reading.folders import output_folder, utterance_files
from asrprune.firstpass.reading.numbers import log_score, whole
from asrprune.firstpass.reading.words import plain_word

LN_10 = math.log(10.0)
LN_BYTELOG = 1024.0 * math.log(1.0001)
"""A bytelog is a log to base 1.0001, divided by 1024."""
_BACKTRACE = ("st:", "et:", "g:", "a:")


def read_srilm_nbest(path: PathLike, bad: OnBad = REFUSE) -> Iterator[NBest]:
    """Yield the list of one file, or of every file of a folder; the id is the file's name.

    ``NBestList1.0``: ``(total) words``, a bytelog; the total is read as the acoustic score, LM
    None. ``NBestList2.0``: ``(total) word ( st: . et: . g: . a: . ) ...``; acoustic and LM are the
    sums of a and g. No header: ``acoustic lm n_words words``, logs to base 10; SRILM's count of
    words leaves out pauses and is not kept. Pauses and ``<s>`` are no words. ``bad`` decides what
    becomes of a list without hypotheses.

    Raises InputError with the line for other text, and mixed layouts.
    Source: SRILM nbest-format(5).
    """
    for utt, file in utterance_files(path, ""):
        header = ""
        hyps = []
        for number, line in read_lines(file):
            fields = line.split()
            if number == 1 and fields and fields[0] in ("NBestList1.0", "NBestList2.0"):
                header = fields[0]
                if len(fields) > 1:
                    found = f"utterance {utt}: {line[:40]!r}"
                    raise InputError(file, number, found, f"{header} alone on its line")
                continue
            try:
                hyps.append(_PARSERS[header](fields))
            except ValueError as problem:
                found = f"utterance {utt}: {problem}"
                raise InputError(file, number, found, "a line of an SRILM n-best list") from None
        if not hyps:
            yield from bad(NothingFoundError(file, None, empty_list(utt), "no hypothesis"))
            continue
        yield NBest(utt, tuple(hyps))


def write_srilm_nbest(path: PathLike, nbests: Iterable[NBest]) -> None:
    """Write ``<utt>.gz`` in the plain layout for every list into the folder ``path``.

    The scores of the empty hypothesis are 0 in a list where it stands alone and has none. Raises
    ValueError for another hypothesis without both scores, a word that a reader would not take as
    itself, and an utterance id that comes twice, holds a slash or cannot be a file name.
    """
    seen = SpooledSet()
    with output_folder(path, r".*\.gz") as folder:
        for nbest in nbests:
            if nbest.utt in seen:
                raise ValueError(f"utterance {nbest.utt} comes twice")
            if "/" in nbest.utt or nbest.utt.startswith(".") or nbest.utt.endswith(".gz"):
                raise ValueError(f"utterance id {nbest.utt!r} cannot be a file name here")
            seen.add(nbest.utt)
            _write_one(folder / f"{nbest.utt}.gz", nbest)


def _write_one(path: Path, nbest: NBest) -> None:
    with write_text(path) as stream:
        for hyp in (Hypothesis("", 0.0, 0.0),) if nbest.silent else nbest.hyps:
            if hyp.acoustic is None or hyp.lm is None:
                raise ValueError(f"utterance {nbest.utt}: SRILM lists hold both scores")
            for word in hyp.words:
                if plain_word(word) != word:
                    raise ValueError(f"utterance {nbest.utt}: {word!r} cannot be a word here")
            scores = f"{hyp.acoustic / LN_10!r} {hyp.lm / LN_10!r}"
            stream.write(" ".join([scores, str(len(hyp.words)), *hyp.words]) + "\n")


def _plain(fields: list[str]) -> Hypothesis:
    if len(fields) < 3:
        raise ValueError(f"{' '.join(fields)[:40]!r} is not acoustic, lm, n_words and words")
    acoustic, lm = (LN_10 * log_score(field) for field in fields[:2])
    whole(fields[2], "number of words")
    return Hypothesis(_text(fields[3:]), acoustic, lm)


def _total(fields: list[str]) -> float:
    text = fields[0] if fields else ""
    if not (text.startswith("(") and text.endswith(")")):
        raise ValueError(f"{text[:40]!r} is not a score in parentheses")
    return LN_BYTELOG * log_score(text[1:-1])


def _decipher_1(fields: list[str]) -> Hypothesis:
    total = _total(fields)
    return Hypothesis(_text(fields[1:]), total)


def _decipher_2(fields: list[str]) -> Hypothesis:
    _total(fields)
    words = []
    acoustic = lm = 0.0
    for at in range(1, len(fields), 11):
        group = fields[at : at + 11]
        if len(group) < 11 or (group[1], group[10]) != ("(", ")"):
            raise ValueError(f"{' '.join(group)[:60]!r} is not word ( st: et: g: a: )")
        if tuple(group[2:10:2]) != _BACKTRACE:
            raise ValueError(f"{' '.join(group)[:60]!r} is not word ( st: et: g: a: )")
        words.append(group[0])
        lm += LN_BYTELOG * log_score(group[7])
        acoustic += LN_BYTELOG * log_score(group[9])
    return Hypothesis(_text(words), acoustic, lm)


def _text(words: list[str]) -> str:
    return " ".join(word for word in map(plain_word, words) if word)


_PARSERS = {"": _plain, "NBestList1.0": _decipher_1, "NBestList2.0": _decipher_2}
