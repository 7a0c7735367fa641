"""Kaldi lattice archives: text and binary, compact and plain, files, ``.scp`` and folders."""

from __future__ import annotations

import codecs
import contextlib
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Optional

import numpy as np

from asrprune.core.lattice.lattice import (
    Lattice,
    NoPathError,
    check_paths,
    from_arcs,
    topological_order,
)
from asrprune.core.lattice.pieces import words_of_pieces
from asrprune.core.spool import SpooledSet
from asrprune.errors import InputError
from asrprune.files import PathLike, open_binary, read_lines, write_packed
from asrprune.files.reading import LONGEST_LINE
from asrprune.firstpass.formats.kaldi_fst import (
    MAGIC,
    Label,
    WordFst,
    format_binary,
    format_text,
    parse_binary,
    parse_text,
)
from asrprune.firstpass.on_bad import REFUSE, NothingFoundError, OnBad, empty_lattice
from asrprune.firstpass.reading.folders import member, numbered, output_folder
from asrprune.firstpass.reading.numbers import whole
from asrprune.firstpass.reading.symbols import (
    NO_WORDS,
    SymbolTable,
    find_symbols,
    read_symbols,
    write_symbols,
)

_FOLDER = (r"lat\.[0-9]+\.gz", r"num_jobs", r"words\.txt")
_ONE_FILE = re.compile(r"-|.*\.(gz|ark|txt|lat|lats)")
_JOB = r"lat\.([0-9]+)(?:\.ark|\.txt)?(?:\.gz)?"
_KEY_BYTES = 4096


def read_kaldi_lats(
    path: PathLike, words: Optional[PathLike] = None, bad: OnBad = REFUSE
) -> Iterator[Lattice]:
    """Yield the lattices of an archive, of what a ``.scp`` lists, or of ``lat.JOB.gz`` files.

    Each entry may be text or binary, CompactLattice or Lattice. Labels are word ids when
    ``words`` names their table or ``words.txt`` lies in the folder; else they must be symbols
    (``int2sym.pl -f 3``). Costs become their negative: natural logs, unscaled; ``lm`` is Kaldi's
    graph score. Transition ids are dropped. Several final states, one with a weight, or a state
    that is all of a lattice are joined by epsilon arcs into a last state. ``bad`` decides what
    becomes of a lattice without a path, as Kaldi writes one when its pruning fails.

    Raises InputError naming the utterance for entries of another layout, numeric labels without
    a table, labels that are not in it, cycles, a lattice without a path, an utterance that comes
    twice, and an archive that is empty or cut short; pipes in a ``.scp`` are not run.
    """
    seen = SpooledSet()
    is_folder = Path(path).is_dir()
    files = [*numbered(path, _JOB, "lat.JOB.gz")] if is_folder else [path]
    table = find_symbols(words, member(path, "words.txt") if is_folder else None)
    for file in files:
        entries = _scp if Path(file).suffix == ".scp" else _archive
        for place, key, fst in entries(file):
            if key in seen:
                raise InputError(place, None, f"utterance {key} again", "each utterance once")
            seen.add(key)
            try:
                lattice = _to_lattice(key, fst, table)
            except NoPathError as problem:
                yield from bad(NothingFoundError(place, None, empty_lattice(key), str(problem)))
                continue
            except ValueError as problem:
                found = f"utterance {key}: {problem}"
                raise InputError(place, None, found, "an acyclic lattice over words") from None
            yield lattice
    if not seen:
        raise InputError(path, None, "no lattice", "at least one")


def write_kaldi_lats(
    path: PathLike,
    lattices: Iterable[Lattice],
    words: Optional[PathLike] = None,
    like: Optional[PathLike] = None,
) -> None:
    """Write CompactLattices as text: one archive, or ``lat.1.gz`` and ``num_jobs`` in a folder.

    ``path`` is a file when it is ``-`` or ends in .gz, .ark, .txt, .lat or .lats, else a folder.
    Labels are the ids of the table ``words``; without it they are symbols in a file, and ids of
    a ``words.txt`` of its own in a folder. ``like`` is a folder of ``lat.JOB.gz`` whose utterances
    are those of ``lattices``: each goes into the job that it has there.

    Raises ValueError for a lattice without LM scores (Kaldi has no way to say that), a word that
    the table does not have, a symbol that a reader would take for an id or for no word, an
    utterance that comes twice, one that ``like`` does not have or has besides, and a cycle.
    """
    _write(path, lattices, words, like, binary=False, compact=True)


def write_kaldi_plain_lats(
    path: PathLike,
    lattices: Iterable[Lattice],
    words: Optional[PathLike] = None,
    like: Optional[PathLike] = None,
) -> None:
    """As ``write_kaldi_lats``, in the text form of Lattice (transition ids 0)."""
    _write(path, lattices, words, like, binary=False, compact=False)


def write_kaldi_binary_lats(
    path: PathLike,
    lattices: Iterable[Lattice],
    words: Optional[PathLike] = None,
    like: Optional[PathLike] = None,
) -> None:
    """As ``write_kaldi_lats``, in binary: scores as float32, a single file needs ``words``."""
    _write(path, lattices, words, like, binary=True, compact=True)


def _archive(path: PathLike) -> Iterator[tuple[str, str, WordFst]]:
    with open_binary(path) as stream:
        source = _Source(path, stream)
        while True:
            key = source.key()
            if key is None:
                return
            yield source.place, key, source.entry(key)


def _scp(path: PathLike) -> Iterator[tuple[str, str, WordFst]]:
    for number, line in read_lines(path):
        key, _, target = line.strip().partition(" ")
        target = target.strip()
        if not target or "|" in target:
            raise InputError(path, number, f"{line[:60]!r}", "a key and a file, no pipe")
        name, _, offset = target.rpartition(":")
        if not name or not offset.isdigit() or len(offset) > 18:
            name, offset = target, "0"
        with open_binary(name) as stream:
            stream.seek(int(offset))
            fst = _Source(name, stream).entry(key)
        yield name, key, fst


class _Source:
    """Reads keys and lattices from a stream and knows where it is."""

    def __init__(self, path: PathLike, stream: BinaryIO) -> None:
        self.place = str(path)
        self.stream = stream
        self.line = 1
        self.separator = b""
        self.begun = False

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        if len(data) < size:
            raise ValueError("an end inside a lattice")
        return data

    def key(self) -> Optional[str]:
        """The next key, whose separator stays unread where it is a line end; None at the end.

        A byte order mark before the first is no part of it."""
        text = b""
        while True:
            byte = self.stream.read(1)
            if byte in (b" ", b"\t", b"\r", b"\n", b"") or len(text) > _KEY_BYTES:
                break
            text += byte
        if not self.begun:
            text, self.begun = text.removeprefix(codecs.BOM_UTF8), True
        if not text and not byte:
            return None
        self.separator = byte if byte in (b"\r", b"\n") else b""
        try:
            key = text.decode("utf-8")
        except UnicodeDecodeError:
            key = ""
        if not byte or not key or key.split() != [key] or len(text) > _KEY_BYTES:
            found = f"{text[:40]!r} where a key should be"
            raise InputError(self.place, None, found, "a Kaldi archive of lattices")
        return key

    def entry(self, key: str) -> WordFst:
        """The lattice after a key."""
        try:
            head = self.separator or self.stream.read(1)
            if head == MAGIC[:1]:
                if self.read(3) != MAGIC[1:]:
                    raise ValueError("no OpenFst header")
                return parse_binary(self.read)
            if head == b"\0":
                raise ValueError("a Kaldi object that is not a lattice")
            rest = self.stream.readline(_KEY_BYTES) if head != b"\n" else b""
            if (head + rest).strip() or not (head + rest).endswith(b"\n"):
                raise ValueError(f"{(head + rest)[:40]!r} after the key")
            self.line += 1
            return parse_text(self._lines())
        except ValueError as problem:
            found = f"utterance {key}: {problem}"
            place = self.line if self.line > 1 else None  # only text has lines
            raise InputError(self.place, place, found, "a Kaldi lattice, text or binary") from None

    def _lines(self) -> Iterator[tuple[int, str]]:
        # the line counter stays on a line while the caller works on it
        while True:
            raw = self.stream.readline(LONGEST_LINE + 1)
            if len(raw) > LONGEST_LINE:
                raise ValueError(f"a line of more than {LONGEST_LINE >> 20} MiB")
            if not raw.endswith(b"\n"):
                return  # no closing line end: cut short, and the caller says so
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError:
                raise ValueError("bytes that are not UTF-8") from None
            yield self.line, line
            self.line += 1


def _to_lattice(key: str, fst: WordFst, table: Optional[SymbolTable]) -> Lattice:
    if not fst.n_states:
        raise NoPathError("a lattice without states")
    if not fst.finals:
        raise NoPathError("a lattice without a final state")
    words: dict[Label, str] = {}
    for arc in fst.arcs:
        if arc[2] not in words:
            words[arc[2]] = _word(arc[2], table)
    arcs: list[tuple[int, int, str, float, Optional[float]]] = [
        (source, target, words[label], acoustic, lm)
        for source, target, label, lm, acoustic in fst.arcs
    ]
    n_states = fst.n_states
    left = {arc[0] for arc in fst.arcs}
    final = next(iter(fst.finals))
    if len(fst.finals) > 1 or fst.finals[final] != (0.0, 0.0) or final in left or not left:
        final, n_states = n_states, n_states + 1
        for state, (lm, acoustic) in fst.finals.items():
            arcs.append((state, final, "", acoustic, lm))
    lattice = from_arcs(key, n_states, fst.start, final, arcs)
    check_paths(lattice)
    return words_of_pieces(lattice) if table is not None and table.of_pieces else lattice


def _word(label: Label, table: Optional[SymbolTable]) -> str:
    numeric = isinstance(label, int) or (label.isascii() and label.isdigit())
    if table is not None:
        number = label if isinstance(label, int) else whole(label, "word id")
        return table.word(number)
    if numeric:
        raise ValueError(f"word id {label} without a table: pass --words words.txt")
    return "" if label in NO_WORDS else str(label)


class _Labels:
    """Labels for words: ids of a table, ids of a table that grows, or the words themselves."""

    def __init__(self, table: Optional[SymbolTable], own: bool) -> None:
        self.table = table
        self.own: Optional[dict[str, int]] = {"": 0} if own else None

    def __call__(self, word: str) -> Label:
        if self.table is not None:
            return self.table.number(word)
        if word in NO_WORDS and word:
            raise ValueError(f"{word!r} cannot be a word in a Kaldi lattice")
        if self.own is not None:
            return self.own.setdefault(word, len(self.own))
        if word.isascii() and word.isdigit():
            raise ValueError(f"word {word!r} would be read as an id: pass --words words.txt")
        return word or "<eps>"


def _write(
    path: PathLike,
    lattices: Iterable[Lattice],
    words: Optional[PathLike],
    like: Optional[PathLike],
    *,
    binary: bool,
    compact: bool,
) -> None:
    table = None if words is None else read_symbols(words)
    if _ONE_FILE.fullmatch(str(path)):
        if binary and table is None:
            raise ValueError("a binary archive holds word ids: pass --words, or write a folder")
        if like is not None:
            raise ValueError(f"like is {like} and {path} is one file; expected a folder to write")
        with _byte_stream(path) as stream:
            for _, entry in _entries(lattices, _Labels(table, own=False), binary, compact):
                stream.write(entry)
        return
    jobs = None if like is None else _jobs(like)
    numbers = sorted({1} if jobs is None else set(jobs.values()))
    with output_folder(path, *_FOLDER) as folder, contextlib.ExitStack() as opened:
        labels = _Labels(table, own=table is None)
        streams = {
            job: opened.enter_context(_byte_stream(folder / f"lat.{job}.gz")) for job in numbers
        }
        for lattice, entry in _entries(lattices, labels, binary, compact):
            if jobs is not None and lattice.utt not in jobs:
                raise ValueError(f"utterance {lattice.utt} is not in {like}")
            streams[1 if jobs is None else jobs.pop(lattice.utt)].write(entry)
        if jobs:
            raise ValueError(f"{len(jobs)} utterances of {like} are missing: {min(jobs)}, ...")
        (folder / "num_jobs").write_text(f"{len(numbers)}\n", encoding="utf-8")
        if labels.own is not None:
            write_symbols(folder / "words.txt", list(labels.own)[1:])


def _jobs(folder: PathLike) -> dict[str, int]:
    """The job of every utterance of a folder, by the number in its file's name."""
    jobs = {}
    for file in numbered(folder, _JOB, "lat.JOB.gz"):
        match = re.fullmatch(_JOB, file.name)
        assert match is not None  # that is how numbered found it
        jobs.update({key: int(match.group(1)) for _, key, _ in _archive(file)})
    return jobs


def _entries(
    lattices: Iterable[Lattice], labels: _Labels, binary: bool, compact: bool
) -> Iterator[tuple[Lattice, bytes]]:
    """Every lattice with its entry of an archive."""
    seen = SpooledSet()
    for lattice in lattices:
        if lattice.utt in seen:
            raise ValueError(f"utterance {lattice.utt} comes twice")
        seen.add(lattice.utt)
        topological_order(lattice)
        try:
            fst = _from_lattice(lattice, labels)
            data = format_binary(fst, compact) if binary else b""
        except ValueError as problem:
            raise ValueError(f"lattice {lattice.utt}: {problem}") from None
        data = data if binary else ("\n" + format_text(fst, compact)).encode()
        yield lattice, f"{lattice.utt} ".encode() + data


def _from_lattice(lattice: Lattice, labels: _Labels) -> WordFst:
    by_state = lattice.word[np.argsort(lattice.src, kind="stable")].tolist()
    # in the order of the arcs, so that what is read back gets the same ids in a table that grows
    names = {word: labels(lattice.words[word]) for word in dict.fromkeys(by_state)}
    if lattice.lm is None and lattice.n_arcs:
        raise ValueError("it has no LM scores, and Kaldi's weights hold both costs")
    lm = [] if lattice.lm is None else lattice.lm.tolist()
    columns = (lattice.src.tolist(), lattice.dst.tolist(), lattice.word.tolist(), lm)
    arcs = [
        (source, target, names[word], score, acoustic)
        for source, target, word, score, acoustic in zip(*columns, lattice.acoustic.tolist())
    ]
    return WordFst(lattice.start, lattice.n_states, arcs, {lattice.final: (0.0, 0.0)})


@contextlib.contextmanager
def _byte_stream(path: PathLike) -> Iterator[BinaryIO]:
    if str(path) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with write_packed(path) as raw:
        yield raw
