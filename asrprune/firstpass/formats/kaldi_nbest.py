"""n-best lists as Kaldi's text archives: what ``nbest-to-linear`` writes, in one folder."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Optional, TextIO

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.spool import SpooledSet
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines, write_text
from asrprune.firstpass.reading.folders import member, numbered, output_folder
from asrprune.firstpass.reading.numbers import from_cost, to_cost, whole
from asrprune.firstpass.reading.symbols import NO_WORDS, SymbolTable, find_symbols, read_symbols

_FILES = r"(words_text|words|acwt|lmwt|words\.txt)(\.gz)?"
_SCORES = {"acwt": "acoustic", "lmwt": "lm"}
_NAMES = {"acwt": ("acwt",), "lmwt": ("lmwt", "lmwt.withlm")}
_log = logging.getLogger(__name__)
_Entry = tuple[str, int, str, dict[str, float]]


def read_kaldi_nbest(path: PathLike, words: Optional[PathLike] = None) -> Iterator[NBest]:
    """Yield the n-best lists of a folder, or of its sub-folders ``archives.1``, ``archives.2``...

    A folder holds ``words_text`` (symbols) or ``words`` (ids: then the table is the file that the
    argument ``words`` names, else ``words.txt`` in the folder), ``acwt`` and ``lmwt``, each plain
    or ``.gz``. Of both ``words_text`` and ``words`` the symbols are read; the folders of Kaldi's
    ``rnnlmrescore.sh`` have ``lmwt.withlm`` (beside ``lmwt.nolm``, without the LM) where others
    have ``lmwt``. Keys are ``utt-rank``. A cost of ``acwt`` (unscaled acoustic) or ``lmwt`` (LM and
    graph) becomes its negative, a natural log; without one of these files that score is None, and
    a warning names files ``lmwt.*`` that are not read.

    The files are read side by side, so that one utterance is in memory. Raises InputError with
    the line for keys that differ between the files, ranks that do not rise, ids without a table,
    costs that are no numbers, an utterance that comes twice, and a file that ends early.
    """
    if not Path(path).is_dir():
        found = "not a folder" if Path(path).exists() else "no such folder"
        raise InputError(path, None, found, "a folder with words_text or words, acwt and lmwt")
    folders = [Path(path)]
    if _first(path, "words_text", "words") is None:
        folders = numbered(path, r"archives\.([0-9]+)", "words_text, words or archives.N")
    seen = SpooledSet()
    _warn_of_other_lms(path, folders)
    for folder in folders:
        table = find_symbols(words, member(folder, "words.txt") or member(path, "words.txt"))
        if table is not None and table.of_pieces:
            raise InputError(table.path, None, "word pieces (tokens.txt)", "a words.txt")
        for nbest in _grouped(folder, _entries(folder, table)):
            if nbest.utt in seen:
                raise InputError(folder, None, f"utterance {nbest.utt} again", "each once")
            seen.add(nbest.utt)
            yield nbest
    if not seen:
        raise InputError(path, None, "no utterance", "at least one")


def write_kaldi_nbest(
    path: PathLike, nbests: Iterable[NBest], words: Optional[PathLike] = None
) -> None:
    """Write a folder with ``words_text`` (or ``words``, ids of the table ``words``) and costs.

    ``acwt`` and ``lmwt`` are written when all hypotheses have that score; the costs of the empty
    hypothesis are 0 in a list where it stands alone and has none. Raises ValueError when
    only some have it, for an utterance that comes twice, a word without an id, a symbol that a
    reader takes for no word, and a folder that holds something else already.
    """
    table = None if words is None else read_symbols(words)
    name = "words_text" if table is None else "words"
    seen = SpooledSet()
    known: Optional[tuple[str, ...]] = None
    silent: list[str] = []  # keys that wait for what the others have
    with output_folder(path, _FILES) as folder, contextlib.ExitStack() as stack:
        texts = stack.enter_context(write_text(folder / name))
        costs: dict[str, TextIO] = {}
        for nbest in nbests:
            if nbest.utt in seen:
                raise ValueError(f"utterance {nbest.utt} comes twice")
            seen.add(nbest.utt)
            if nbest.silent:
                texts.write(f"{nbest.utt}-1\n")
                silent.append(f"{nbest.utt}-1")
                continue
            for rank, hyp in enumerate(nbest.hyps, start=1):
                has = tuple(
                    file for file, score in _SCORES.items() if getattr(hyp, score) is not None
                )
                if known is None:
                    known = has
                    costs = {file: stack.enter_context(write_text(folder / file)) for file in has}
                if has != known:
                    found = f"scores for {' and '.join(has) or 'no file'}"
                    before = f"those before it for {' and '.join(known) or 'none'}"
                    raise ValueError(f"utterance {nbest.utt}, hypothesis {rank}: {found}, {before}")
                _write_silent(silent, costs)
                labels = [_label(nbest.utt, word, table) for word in hyp.words]
                texts.write(" ".join([f"{nbest.utt}-{rank}", *labels]) + "\n")
                for file, stream in costs.items():
                    stream.write(f"{nbest.utt}-{rank} {to_cost(getattr(hyp, _SCORES[file]))}\n")
        _write_silent(silent, costs)


def _write_silent(keys: list[str], costs: dict[str, TextIO]) -> None:
    for stream in costs.values():
        stream.writelines(f"{key} {to_cost(0.0)}\n" for key in keys)
    keys.clear()


def _label(utt: str, word: str, table: Optional[SymbolTable]) -> str:
    if word in NO_WORDS:
        raise ValueError(f"utterance {utt}: {word!r} cannot be a word in Kaldi's files")
    return word if table is None else str(table.number(word))


def _first(folder: PathLike, *names: str) -> Optional[Path]:
    """The file of the first of ``names`` that the folder has, plain or ``.gz``."""
    return next((file for name in names if (file := member(folder, name)) is not None), None)


def _warn_of_other_lms(path: PathLike, folders: list[Path]) -> None:
    without = [folder for folder in folders if _first(folder, *_NAMES["lmwt"]) is None]
    others = {file.name for folder in without for file in folder.glob("lmwt.*") if file.is_file()}
    if others:
        text = "%s: no lmwt or lmwt.withlm, so no LM scores; not read: %s"
        _log.warning(text, path, ", ".join(sorted(others)))


def _entries(folder: Path, table: Optional[SymbolTable]) -> Iterator[tuple[int, _Entry]]:
    """Yield (line, (utt, rank, text, costs)); the lines of all files must have the same keys."""
    file = _first(folder, "words_text", "words")
    if file is None:
        raise InputError(folder, None, "no words_text and no words", "one of them")
    by_id = file.name.removesuffix(".gz") == "words"
    if by_id and table is None:
        found = "word ids without a table"
        raise InputError(file, None, found, "words.txt in the folder, or --words FILE")
    others = {name: _first(folder, *_NAMES[name]) for name in _SCORES}
    costs = {name: (path, read_lines(path)) for name, path in others.items() if path is not None}
    number = 0
    for number, line in read_lines(file):
        key, *labels = line.split() or [""]
        utt, _, rank = key.rpartition("-")
        if not utt or not re.fullmatch(r"[1-9][0-9]{0,8}", rank):
            raise InputError(file, number, f"key {key[:60]!r}", "utt-rank")
        try:
            if by_id:
                assert table is not None  # checked above
                labels = [table.word(whole(label, "word id")) for label in labels]
        except ValueError as problem:
            raise InputError(file, number, f"utterance {utt}: {problem}", "word ids") from None
        text = " ".join(label for label in labels if label not in NO_WORDS)
        scores = {}
        for name, (other, lines) in costs.items():
            scores[name] = _cost(other, key, next(lines, None))
        yield number, (utt, int(rank), text, scores)
    for other, lines in costs.values():
        extra = next(lines, None)
        if extra is not None:
            found = f"{extra[1][:40]!r} after the last key of {file.name}"
            raise InputError(other, extra[0], found, f"{number} lines")


def _cost(path: Path, key: str, entry: Optional[tuple[int, str]]) -> float:
    if entry is None:
        raise InputError(path, None, f"an end before {key}", "the keys of the words file")
    number, line = entry
    fields = line.split()
    if not fields or fields[0] != key:
        found = f"key {fields[0] if fields else ''!r}"
        raise InputError(path, number, found, f"{key}, as in the words file")
    try:
        (cost,) = fields[1:]
        return from_cost(cost)
    except ValueError as problem:
        raise InputError(path, number, f"{key}: {problem}", "a key and one cost") from None


def _grouped(folder: Path, entries: Iterator[tuple[int, _Entry]]) -> Iterator[NBest]:
    utt, last = "", 0
    hyps: list[Hypothesis] = []
    for number, (next_utt, rank, text, costs) in entries:
        if next_utt != utt:
            if hyps:
                yield NBest(utt, tuple(hyps))
            utt, last, hyps = next_utt, 0, []
        if rank <= last:
            found = f"utterance {utt}: rank {rank} after {last}"
            raise InputError(folder, number, found, "ranks that rise")
        last = rank
        scores = {_SCORES[name]: value for name, value in costs.items()}
        hyps.append(Hypothesis(text, scores.get("acoustic"), scores.get("lm")))
    if hyps:
        yield NBest(utt, tuple(hyps))
