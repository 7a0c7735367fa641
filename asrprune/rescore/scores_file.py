"""LM scores on disk: one line an utterance, tied to its hypotheses by their hash.

First line: ``{"format": "asrprune-scores", "version": 1, "log_base": "e", "sign": "logprob",
"lm": name, ...}``. Then ``{"utt": id, "hash": NBest.digest, "scores": [ln P, ...]}`` with one
score per hypothesis in the order of the n-best list. The string "-inf" stands for minus infinity,
which JSON cannot write. The last entry of every line is ``"crc32"``, the CRC-32 of the text before
it; a line that was made or changed by hand has none and is taken as it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from asrprune.core.checksums import check_line, sealed_line
from asrprune.core.config import shown
from asrprune.core.hypothesis import NBest
from asrprune.core.record import LARGEST, a_label, one_of, parse_record
from asrprune.core.spool import SpooledDict
from asrprune.errors import InputError
from asrprune.files import PathLike, parse_json, record_lines, write_text

FORMAT, VERSION = "asrprune-scores", 1


@dataclass(frozen=True)
class UtteranceScores:
    """The scores [hypotheses] (float64, ln P) of one utterance and the hash of its list."""

    utt: str
    digest: str
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """A whole scores file: its header and utterance id -> scores."""

    path: str
    header: Mapping[str, Any]
    utterances: Mapping[str, UtteranceScores]

    @property
    def lm(self) -> str:
        """The name of the LM that gave the scores."""
        return str(self.header.get("lm", "lm"))

    def of(self, nbest: NBest) -> NDArray[np.float64]:
        """The scores of ``nbest``, one per hypothesis.

        Raises InputError when the file has none for this utterance or they belong to other
        hypotheses.
        """
        return _of_list(self.path, self.utterances.get(nbest.utt), nbest)

    def read_rest(self) -> None:
        """Nothing: all of the file is read."""


class ScoresReader:
    """A scores file that is read along with its lists: ``lm``, ``of`` and errors as of ``Scores``.

    Where the lists come in the order of the file, as those that it was made from, one utterance is
    in memory at a time; what is passed over waits in a temporary file. The header is read at once;
    what stands behind the last list is checked by ``read_rest``.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = str(path)
        self._lines = record_lines(path)
        self.header = _read_header(path, self._lines)
        # utterance id -> its scores, or None where they were given out at once
        self._seen: SpooledDict[Optional[UtteranceScores]] = SpooledDict()
        self._passed_over = False

    @property
    def lm(self) -> str:
        """The name of the LM that gave the scores."""
        return str(self.header.get("lm", "lm"))

    def of(self, nbest: NBest) -> NDArray[np.float64]:
        """The scores of ``nbest``, one per hypothesis; each utterance can be asked for once.

        Raises InputError as ``Scores.of`` does, and as ``read_scores`` for the lines read so far.
        """
        found = self._seen.get(nbest.utt) if self._passed_over else None
        if found is None:
            found = self._read_until(nbest.utt)
        return _of_list(self.path, found, nbest)

    def read_rest(self) -> None:
        """Read to the end of the file. Raises InputError as ``read_scores`` does."""
        self._read_until(None)

    def utterances(self) -> Iterator[UtteranceScores]:
        """All that was not asked for yet, in the order of the file. Raises InputError as
        ``read_scores``."""
        return (parse_line(self.path, number, line) for number, line in self._lines)

    def _read_until(self, utt: Optional[str]) -> Optional[UtteranceScores]:
        for number, line in self._lines:
            one = parse_line(self.path, number, line)
            before = len(self._seen)
            self._seen.setdefault(one.utt, None if one.utt == utt else one)
            if len(self._seen) == before:
                found = f"utterance {one.utt} again"
                raise InputError(self.path, number, found, "each utterance once")
            if one.utt == utt:
                return one
            self._passed_over = True
        return None


def _of_list(path: str, found: Optional[UtteranceScores], nbest: NBest) -> NDArray[np.float64]:
    if found is None:
        raise InputError(
            path, None, f"no scores of utterance {nbest.utt}", "every utterance's scores"
        )
    if found.digest != nbest.digest or len(found.scores) != len(nbest.hyps):
        raise InputError(
            path,
            None,
            f"utterance {nbest.utt}: scores of other hypotheses (hash {found.digest})",
            f"scores of this n-best list (hash {nbest.digest})",
        )
    return found.scores


def make_header(lm: str, **more: Any) -> dict[str, Any]:
    """The first line of a scores file of the LM called ``lm``."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "log_base": "e",
        "sign": "logprob",
        "lm": lm,
        **more,
    }


def write_scores(
    path: PathLike, header: Mapping[str, Any], utterances: Iterable[UtteranceScores]
) -> None:
    """Write a scores file, whole or not at all, streaming."""
    with write_text(path) as stream:
        stream.write(sealed_line(json.dumps(dict(header), ensure_ascii=False)) + "\n")
        for one in utterances:
            stream.write(format_line(one) + "\n")


def format_line(one: UtteranceScores) -> str:
    """The line of one utterance. Raises ValueError for a score that is NaN or +inf."""
    values: list[Union[float, str]] = []
    for value in one.scores.tolist():
        if math.isnan(value) or value == math.inf:
            raise ValueError(f"utterance {one.utt}: score {value}; expected a number or -inf")
        values.append("-inf" if value == -math.inf else value)
    line = {"utt": one.utt, "hash": one.digest, "scores": values}
    return sealed_line(json.dumps(line, ensure_ascii=False, allow_nan=False))


def read_scores(path: PathLike) -> Scores:
    """The scores file at ``path``.

    Raises InputError for another format, a bad line, one that does not fit its checksum, a score
    that is no number, and an utterance that comes twice.
    """
    lines = record_lines(path)
    header = _read_header(path, lines)
    utterances: dict[str, UtteranceScores] = {}
    for number, line in lines:
        one = parse_line(path, number, line)
        if one.utt in utterances:
            raise InputError(path, number, f"utterance {one.utt} again", "each utterance once")
        utterances[one.utt] = one
    return Scores(str(path), header, utterances)


def parse_line(path: PathLike, number: int, line: str) -> UtteranceScores:
    """The utterance on line ``number`` of a scores file. Raises InputError for a bad one."""
    value = parse_json(path, number, line, free=False)
    if not isinstance(value, dict):
        raise InputError(path, number, f"JSON {type(value).__name__}", "a JSON object")
    check_line(path, number, line, value)
    utt, digest, scores = value.get("utt"), value.get("hash"), value.get("scores")
    if not isinstance(utt, str) or not isinstance(digest, str) or not isinstance(scores, list):
        raise InputError(path, number, "a line without utt, hash and scores", "all three")
    return UtteranceScores(utt, digest, _floats(path, number, utt, scores))


def _floats(path: PathLike, number: int, utt: str, scores: Sequence[Any]) -> NDArray[np.float64]:
    for index, value in enumerate(scores, start=1):
        if value == "-inf" or (type(value) in (int, float) and -LARGEST < value < LARGEST):
            continue
        found = f"utterance {utt}: score {index} is {shown(value)}"
        raise InputError(path, number, found, 'a number below 2^63 or "-inf"')
    return np.array([float(value) for value in scores], dtype=np.float64)


def _read_header(path: PathLike, lines: Iterator[tuple[int, str]]) -> Mapping[str, Any]:
    number, line = next(lines, (1, ""))
    if not line:
        raise InputError(path, number, "an empty file", f'a header with "format": "{FORMAT}"')
    header = parse_record(path, number, line).check_format(FORMAT, VERSION, "a scores file")
    header.get("log_base", one_of("e"))
    header.find("lm", a_label)
    return header.values
