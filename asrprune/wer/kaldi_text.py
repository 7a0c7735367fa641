"""Kaldi ``text`` files: ``utt word word ...``, one utterance a line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from asrprune.core.spool import SpooledDict
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines, write_text

_EXPECTED = "'utt word word ...'"


def read_kaldi_text(path: PathLike) -> dict[str, str]:
    """utterance id -> words separated by single spaces, in the order of the file.

    An id alone is an empty transcript (""). Any run of white space, tabs too, separates; CRLF line
    ends, ``.gz``, ``.xz`` and ``-`` are accepted.
    Raises InputError for a blank line, an utterance that appears twice, and a file with no lines.
    """
    found = parse_kaldi_text(path, read_lines(path))
    return {utt: text for utt, (text, _) in found.items()}


def parse_kaldi_text(
    path: PathLike, numbered: Iterable[tuple[int, str]]
) -> SpooledDict[tuple[str, int]]:
    """``read_kaldi_text`` of the (number, line) pairs of a file: id -> (words, number)."""
    found: SpooledDict[tuple[str, int]] = SpooledDict()
    for number, line in numbered:
        utt, *words = line.split() or [""]
        if not utt:
            raise InputError(path, number, "a blank line", _EXPECTED)
        add_once(path, found, utt, " ".join(words), number)
    if not found:
        raise InputError(path, None, "an empty file", f"lines of {_EXPECTED}")
    return found


def add_once(
    path: PathLike, texts: SpooledDict[tuple[str, int]], utt: str, text: str, number: int
) -> None:
    """Add the utterance of line ``number``. Raises InputError if it is there already."""
    first = texts.setdefault(utt, (text, number))[1]
    if first != number:
        found = f"utterance {utt} again (first on line {first})"
        raise InputError(path, number, found, "each utterance once")


@contextmanager
def kaldi_text_writer(path: PathLike) -> Iterator[Callable[[str, str], None]]:
    """A function that writes the words of one utterance, for an empty transcript the id alone; the
    file is there, whole, when the block ends.

    It raises ValueError for an id with white space in it and for text that is not words separated
    by single spaces: neither could be read back.
    """
    with write_text(path) as stream:

        def put(utt: str, text: str) -> None:
            if utt.split() != [utt]:
                raise ValueError(f"utterance id {utt!r} is empty or holds white space")
            if text != " ".join(text.split()):
                raise ValueError(f"utterance {utt}: text {text!r} has stray white space")
            stream.write(f"{utt} {text}\n" if text else f"{utt}\n")

        yield put
