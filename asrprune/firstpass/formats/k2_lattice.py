"""k2 lattices saved as ``torch.save(fsa.as_dict(), path)``; k2 itself is not needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Optional

from asrprune.core.lattice.lattice import Lattice, NoPathError
from asrprune.core.lattice.pieces import words_of_pieces
from asrprune.core.spool import SpooledSet
from asrprune.core.tensor_file import load_tensors
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines, write_binary
from asrprune.firstpass.formats.k2_record import make_record, parse_record
from asrprune.firstpass.on_bad import REFUSE, NothingFoundError, OnBad, empty_lattice
from asrprune.firstpass.reading.folders import output_folder, utterance_files
from asrprune.firstpass.reading.symbols import read_symbols


def read_k2_lattices(
    path: PathLike,
    words: Optional[PathLike] = None,
    utts: Optional[PathLike] = None,
    bad: OnBad = REFUSE,
) -> Iterator[Lattice]:
    """Yield the lattices of a ``.pt`` file (an Fsa or an FsaVec), or of a folder of such files.

    Word ids are ``aux_labels``, and the labels where there are none; their table is the file
    ``words``, else the one that we store. The pieces of a ``tokens.txt`` (icefall) are joined to
    words. ``lm_scores``, where it is there, is the LM score, and the rest of ``scores`` the
    acoustic score; else LM None and ``scores`` is acoustic. All are natural logs. The ids of an
    FsaVec are those that we store, else the lines of the file ``utts``; a single Fsa has the name
    of its file. ``bad`` decides what becomes of a lattice without a path.

    Raises InputError for files that hold Python objects (ragged ``aux_labels``), tensors of other
    shapes, FsaVecs without ids, word ids without a table, cycles, lattices without a path's end,
    and an utterance that comes twice. Source: k2 ``csrc/fsa.h``, ``FsaVecToTensor``.
    """
    table = None if words is None else read_symbols(words)
    listed = None if utts is None else [line.strip() for _, line in read_lines(utts)]
    files = list(utterance_files(path, ".pt"))
    if listed is not None and len(files) > 1:
        raise ValueError(f"utts is {utts}, a list of one file's ids, and {path} holds {len(files)}")
    seen = SpooledSet()
    for stem, file in files:
        loaded = load_tensors(file)
        try:
            record = parse_record(loaded)
            ids = record.ids(listed, stem)
        except ValueError as problem:
            raise InputError(file, None, str(problem), "fsa.as_dict() of k2") from None
        for index, utt in enumerate(ids):
            if utt in seen:
                raise InputError(file, None, f"utterance {utt} again", "each utterance once")
            seen.add(utt)
            try:
                lattice = record.lattice(utt, index, None if table is None else table.word)
                if table is not None and table.of_pieces:
                    lattice = words_of_pieces(lattice)
            except NoPathError as problem:
                yield from bad(NothingFoundError(file, None, empty_lattice(utt), str(problem)))
                continue
            except ValueError as problem:
                found = f"utterance {utt}: {problem}"
                raise InputError(file, None, found, "an acyclic word lattice of k2") from None
            yield lattice
    if not seen:
        raise InputError(path, None, "no lattice", "at least one")


def write_k2_lattices(
    path: PathLike, lattices: Iterable[Lattice], words: Optional[PathLike] = None
) -> None:
    """Write one FsaVec when ``path`` ends in .pt (all in memory), else a folder of ``<utt>.pt``.

    Labels and ``aux_labels`` are word ids of the table ``words``, else of one of our own that is
    stored along, as are the ids of a vector's utterances; ``scores`` are acoustic + LM as
    float32, ``lm_scores`` the LM's. States are renumbered, and what lies on no path is left out.
    Raises ValueError for a lattice without a path, LM scores in only some lattices, an LM score
    of -inf, a score beyond float32, a word that is not in ``words``, an utterance that comes
    twice or cannot be a file name, and a cycle.
    """
    number = None if words is None else read_symbols(words).number
    seen = SpooledSet()

    def distinct() -> Iterator[Lattice]:
        for lattice in lattices:
            if lattice.utt in seen:
                raise ValueError(f"utterance {lattice.utt} comes twice")
            seen.add(lattice.utt)
            yield lattice

    if str(path).endswith(".pt"):
        _save(Path(path), make_record(list(distinct()), True, number))
        return
    with output_folder(path, r".*\.pt") as folder:
        for lattice in distinct():
            if "/" in lattice.utt or lattice.utt.startswith("."):
                raise ValueError(f"utterance id {lattice.utt!r} cannot be a file name")
            _save(folder / f"{lattice.utt}.pt", make_record([lattice], False, number))


def _save(path: Path, record: dict[str, Any]) -> None:
    import torch

    with write_binary(path) as stream:
        torch.save(record, stream)
