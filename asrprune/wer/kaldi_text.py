"""Kaldi ``text`` files: ``utt word word ...``, one utterance a line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines, write_text

_EXPECTED = "'utt word word ...'"


def read_kaldi_text(path: PathLike) -> dict[str, str]:
    """utterance id -> words separated by single spaces, in the order of the file.

    An id alone is an empty transcript (""). Any run of white space, tabs too, separates; CRLF line
    ends, ``.gz``, ``.xz`` and ``-`` are accepted.
    Raises InputError for a blank line, an utterance that appears twice, and a file with no lines.
    """
    return parse_kaldi_text(path, read_lines(path))


def parse_kaldi_text(path: PathLike, numbered: Iterable[tuple[int, str]]) -> dict[str, str]:
    """``read_kaldi_text`` of the (number, line) pairs of a file."""
    texts: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in numbered:
        utt, *words = line.split() or [""]
        if not utt:
            raise InputError(path, number, "a blank line", _EXPECTED)
        if utt in texts:
            found = f"utterance {utt} again (first on line {lines[utt]})"
            raise InputError(path, number, found, "each utterance once")
        texts[utt] = " ".join(words)
        lines[utt] = number
    if not texts:
        raise InputError(path, None, "an empty file", f"lines of {_EXPECTED}")
    return texts


def write_kaldi_text(path: PathLike, texts: Mapping[str, str]) -> None:
    """Write ``utt words`` lines in the order given; an empty transcript is the id alone.

    Raises ValueError for an id with white space in it and for text that is not words separated by
    single spaces: neither could be read back.
    """
    for utt, text in texts.items():
        if utt.split() != [utt]:
            raise ValueError(f"utterance id {utt!r} is empty or holds white space")
        if text != " ".join(text.split()):
            raise ValueError(f"utterance {utt}: text {text!r} has stray white space")
    with write_text(path) as stream:
        for utt, text in texts.items():
            stream.write(f"{utt} {text}\n" if text else f"{utt}\n")
