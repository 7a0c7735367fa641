"""What the first pass found, read from files of every format, and written."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional

from asrprune.core.composition import check_characters
from asrprune.core.hypothesis import NBest
from asrprune.core.lattice.lattice import Lattice
from asrprune.core.lattice.union import union_of_nbest
from asrprune.core.tables import lookup
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.firstpass.formats import jsonl
from asrprune.firstpass.formats.table import FORMATS, OPTIONS, Item, lattice_nbest, read_items
from asrprune.wer import kaldi_text


def read_nbest(
    path: PathLike,
    format: str = "jsonl",
    *,
    nbest: Optional[int] = None,
    weights: Optional[ScoreWeights] = None,
    **options: Any,
) -> list[NBest]:
    """The n-best lists in a file or folder, in its order.

    ``format`` is one of ``asrprune list formats``; acoustic and LM scores come as natural logs,
    higher is better, None where the decoder did not tell. Of a lattice format each list holds the
    ``nbest`` (100) best distinct hypotheses under ``weights`` (default: the lattice's own, else 1
    for the scores that it has). ``options`` are those of the format, as ``words="words.txt"``.

    Raises InputError with path and line for bad data and an utterance that comes twice, ValueError
    for an unknown format or an option that has no use.

    >>> import asrprune, tempfile
    >>> from asrprune.api.example import tiny_lists
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asrprune.write_nbest(f"{folder}/nbest.jsonl.gz", tiny_lists())
    ...     lists = asrprune.read_nbest(f"{folder}/nbest.jsonl.gz")
    >>> lists[0].utt, lists[0].hyps[0]
    ('utt1', Hypothesis(text='the cat sad on the mat', acoustic=-10.0, lm=-6.0, tokens=None))
    """
    if lookup(FORMATS, format, "format").kind == "nbest" and (nbest, weights) != (None, None):
        raise ValueError(f"nbest and weights have no use for format {format}: it has no lattices")
    count = 100 if nbest is None else nbest
    if count < 1:
        raise ValueError(f"nbest is {nbest}; expected >= 1")
    if weights is not None and weights.lm:
        raise ValueError(f"weights has {len(weights.lm)} of rescoring LMs; expected none")
    return [
        item if isinstance(item, NBest) else _best_of(item, path, count, weights)
        for item in _read(path, format, options)
    ]


def read_lattices(path: PathLike, format: str, **options: Any) -> list[Lattice]:
    """The lattices in a file or folder, in its order; scores and ``options`` as in ``read_nbest``.

    N-best lists become lattices whose paths are their hypotheses. Raises as ``read_nbest`` does,
    and InputError for a list without acoustic scores.

    >>> import asrprune, tempfile
    >>> from asrprune.api.example import tiny_lists
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asrprune.write_nbest(f"{folder}/nbest.jsonl", tiny_lists())
    ...     lattices = asrprune.read_lattices(f"{folder}/nbest.jsonl", "jsonl")
    >>> lattices[0].utt, lattices[0].n_arcs
    ('utt1', 12)
    """
    return [
        item if isinstance(item, Lattice) else _union_of(item, path)
        for item in _read(path, format, options)
    ]


def read_kaldi_text(path: PathLike) -> dict[str, str]:
    """Utterance id -> words, of a Kaldi ``text`` file: references, or hypotheses of a decoder.

    An id alone is an empty transcript. Raises InputError with the line for a blank line and an
    utterance that comes twice.

    >>> import asrprune, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "text")
    ...     _ = path.write_text("utt1 the cat sat\\nutt2\\n")
    ...     asrprune.read_kaldi_text(path)
    {'utt1': 'the cat sat', 'utt2': ''}
    """
    return kaldi_text.read_kaldi_text(path)


def write_nbest(path: PathLike, lists: Iterable[NBest]) -> None:
    """Write n-best lists as the JSON lines that the verbs of ``asrprune`` read; ``.gz`` is packed.

    ``asrprune convert`` makes other formats of them. Raises TypeError for anything but NBest,
    ValueError for an utterance that comes twice and a score of -inf.

    >>> import asrprune, tempfile
    >>> nbest = asrprune.NBest("utt1", (asrprune.Hypothesis("a cat", acoustic=-3.5),))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asrprune.write_nbest(f"{folder}/nbest.jsonl", [nbest])
    ...     asrprune.read_nbest(f"{folder}/nbest.jsonl") == [nbest]
    True
    """
    jsonl.write_nbest(path, checked_lists(lists))


def checked_lists(lists: Iterable[NBest]) -> list[NBest]:
    """The lists. Raises TypeError unless they are NBest, ValueError for an utterance that comes
    twice."""
    if isinstance(lists, (str, NBest)):
        raise TypeError(f"lists is {shown(lists)}; expected a list of asrprune.NBest")
    checked: list[NBest] = []
    seen: set[str] = set()
    for index, item in enumerate(lists):
        if not isinstance(item, NBest):
            expected = "asrprune.NBest, an utterance with its hypotheses"
            raise TypeError(f"lists[{index}] is {shown(item)}; expected {expected}")
        if item.utt in seen:
            raise ValueError(f"lists: utterance {item.utt} comes twice; expected once")
        seen.add(item.utt)
        checked.append(item)
    return checked


def check_texts(name: str, texts: Mapping[str, str]) -> None:
    """Raise TypeError unless the argument called ``name`` is utterance id -> words, ValueError for
    half characters (``check_characters``)."""
    if not isinstance(texts, Mapping):
        raise TypeError(f"{name} is {shown(texts)}; expected utterance id -> words")
    for utt, text in texts.items():
        if not isinstance(text, str):
            found = f"{name}: utterance {utt} has {shown(text)}"
            raise TypeError(f"{found}; expected its words as a string")
        try:
            check_characters(text)
        except ValueError as problem:
            raise ValueError(f"{name}: utterance {utt}: {problem}") from None


def shown(value: object) -> str:
    """A value and its type, short enough for a message.

    >>> shown("the cat")
    "'the cat' (str)"
    """
    return f"{reprlib.repr(value)} ({type(value).__name__})"


def _read(path: PathLike, name: str, options: dict[str, Any]) -> Iterator[Item]:
    entry = lookup(FORMATS, name, "format")
    for option in options:
        if option not in entry.read_options:
            known = ", ".join(entry.read_options) or "none"
            raise ValueError(f"unknown option {option!r} of format {name}; known: {known}")
    for option in entry.needs:
        if option not in options:
            raise ValueError(f"format {name} needs the option {option}: {OPTIONS[option].help}")
    seen: set[str] = set()
    for item in read_items(name, os.fspath(path), options):
        if item.utt in seen:
            raise InputError(path, None, f"utterance {item.utt} again", "each utterance once")
        seen.add(item.utt)
        yield item


def _best_of(
    lattice: Lattice, path: PathLike, nbest: int, weights: Optional[ScoreWeights]
) -> NBest:
    known = ScoreWeights(first_lm=0.0 if lattice.lm is None else 1.0)
    try:
        return lattice_nbest(lattice, nbest, weights or lattice.weights or known)
    except ValueError as problem:
        raise InputError(path, None, str(problem), "lattices with a best path") from None


def _union_of(nbest: NBest, path: PathLike) -> Lattice:
    try:
        return union_of_nbest(nbest)
    except ValueError as problem:
        raise InputError(path, None, str(problem), "lists that make a lattice") from None
