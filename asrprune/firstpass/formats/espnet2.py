"""n-best lists in the folders that ESPnet2's ``asr_inference`` writes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.spool import SpooledSet
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
from asrprune.firstpass.reading.folders import numbered
from asrprune.firstpass.reading.numbers import log_score, whole

_TENSOR = re.compile(r"tensor\(\s*([^,()\s]+)\s*(,[^()]*)?\)")


def read_espnet2(path: PathLike) -> Iterator[NBest]:
    """Yield the lists of a ``logdir`` (or the folder above it, or one ``output.JOB``).

    ``{1..n}best_recog/{text,score}`` hold ``utt words`` and ``utt score``; ``token_int``, where it
    is there, gives the token ids. The score (``-12.3`` or ``tensor(-12.3, device=...)``) is a
    total, read as the acoustic score; LM None. One job is in memory at a time.

    Raises InputError with the line for scores that are no numbers, utterances that the files of a
    rank or the next better rank do not have, ranks that are missing and duplicates.
    """
    folder = Path(path)
    if not folder.is_dir():
        found = "not a folder" if folder.exists() else "no such folder"
        raise InputError(path, None, found, "a folder of output.JOB")
    if (folder / "logdir").is_dir():
        folder = folder / "logdir"
    jobs = [folder]
    if not (folder / "1best_recog").is_dir():
        jobs = numbered(folder, r"output\.([0-9]+)", "output.JOB or 1best_recog")
    seen = SpooledSet()
    for job in jobs:
        for nbest in _job(job):
            if nbest.utt in seen:
                raise InputError(job, None, f"utterance {nbest.utt} again", "each once")
            seen.add(nbest.utt)
            yield nbest
    if not seen:
        raise InputError(path, None, "no utterance", "at least one")


def _job(job: Path) -> Iterator[NBest]:
    hyps: dict[str, list[Hypothesis]] = {}
    ranks = numbered(job, r"([0-9]+)best_recog", "1best_recog, 2best_recog, ...")
    for rank, folder in enumerate(ranks, start=1):
        if folder.name != f"{rank}best_recog":
            raise InputError(job, None, folder.name, f"{rank}best_recog first")
        texts, scores = _table(folder / "text"), _table(folder / "score")
        tokens = _table(folder / "token_int") if (folder / "token_int").is_file() else None
        for name, other in (("score", scores), ("token_int", tokens)):
            if other is not None and other.keys() != texts.keys():
                utt = sorted(other.keys() ^ texts.keys())[0]
                found = f"utterance {utt} in only one of text and {name}"
                raise InputError(folder, None, found, "the same utterances")
        for utt, (line, text) in texts.items():
            if len(hyps.get(utt, [])) != rank - 1:
                raise InputError(folder / "text", line, f"utterance {utt}", "one of better rank")
            ids = None if tokens is None else _ids(folder / "token_int", utt, tokens[utt])
            score = _score(folder / "score", utt, scores[utt])
            hyps.setdefault(utt, []).append(Hypothesis(" ".join(text.split()), score, None, ids))
    for utt, found_hyps in hyps.items():
        yield NBest(utt, tuple(found_hyps))


def _table(path: Path) -> dict[str, tuple[int, str]]:
    table: dict[str, tuple[int, str]] = {}
    for number, line in read_lines(path):
        fields = line.split(maxsplit=1)
        if not fields or fields[0] in table:
            found = f"utterance {fields[0]} again" if fields else "an empty line"
            raise InputError(path, number, found, "each utterance once")
        table[fields[0]] = (number, fields[1] if len(fields) > 1 else "")
    return table


def _score(path: Path, utt: str, entry: tuple[int, str]) -> float:
    text = entry[1].strip()
    match = _TENSOR.fullmatch(text)
    try:
        return log_score(text if match is None else match.group(1))
    except ValueError as problem:
        raise InputError(path, entry[0], f"utterance {utt}: {problem}", "a score") from None


def _ids(path: Path, utt: str, entry: tuple[int, str]) -> Optional[tuple[int, ...]]:
    try:
        return tuple(whole(field, "token id") for field in entry[1].split())
    except ValueError as problem:
        raise InputError(path, entry[0], f"utterance {utt}: {problem}", "token ids") from None
