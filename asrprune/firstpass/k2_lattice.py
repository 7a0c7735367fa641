"""k2 lattices saved as ``torch.save(fsa.as_dict(), path)``; k2 itself is not needed."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.lattice import Lattice, sorted_lattice, topological_order
from asrprune.errors import InputError
from asrprune.files import PathLike, open_binary, read_lines, write_binary
from asrprune.firstpass.folders import output_folder, utterance_files
from asrprune.firstpass.symbols import NO_WORDS, SymbolTable, read_symbols

UTTS, WORDS = "utts", "word_table"
"""Attributes of our own in a saved lattice: utterance ids, and words by id ("" for epsilon)."""
_BROKEN = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    AttributeError,
    TypeError,
    OverflowError,
    AssertionError,
    MemoryError,
    OSError,
)
Arcs = NDArray[np.int32]


@dataclass(frozen=True)
class _Saved:
    """What one file holds, checked: ``arcs`` [A, 4], word ids [A], LM scores [A] or None."""

    n_states: list[int]
    splits: list[int]
    arcs: Arcs
    word_ids: NDArray[np.int64]
    lm: Optional[NDArray[np.float64]]
    utts: Optional[list[str]]
    words: Optional[list[str]]


def read_k2_lattices(
    path: PathLike, words: Optional[PathLike] = None, utts: Optional[PathLike] = None
) -> Iterator[Lattice]:
    """Yield the lattices of a ``.pt`` file (an Fsa or an FsaVec), or of a folder of such files.

    Word ids are ``aux_labels``, and the labels where there are none; their table is the file
    ``words``, else the one that we store. ``lm_scores``, where it is there, is the LM score, and
    the rest of ``scores`` the acoustic score; else LM None and ``scores`` is acoustic. All are
    natural logs. The ids of an FsaVec are those that we store, else the lines of the file
    ``utts``; a single Fsa has the name of its file.

    Raises InputError for files that hold Python objects (ragged ``aux_labels``), tensors of other
    shapes, FsaVecs without ids, word ids without a table, cycles, lattices without a path's end,
    and an utterance that comes twice. Source: k2 ``csrc/fsa.h``, ``FsaVecToTensor``.
    """
    table = None if words is None else read_symbols(words)
    listed = None if utts is None else [line.strip() for _, line in read_lines(utts)]
    files = list(utterance_files(path, ".pt"))
    if listed is not None and len(files) > 1:
        raise ValueError(f"utts is {utts}, a list of one file's ids, and {path} holds {len(files)}")
    seen: set[str] = set()
    for stem, file in files:
        loaded = _load(file)
        try:
            saved = _saved(loaded)
            ids = _ids(stem, saved, listed)
        except ValueError as problem:
            raise InputError(file, None, str(problem), "fsa.as_dict() of k2") from None
        for index, utt in enumerate(ids):
            if utt in seen:
                raise InputError(file, None, f"utterance {utt} again", "each utterance once")
            seen.add(utt)
            try:
                lattice = _lattice(utt, saved, index, table)
            except ValueError as problem:
                found = f"utterance {utt}: {problem}"
                raise InputError(file, None, found, "an acyclic word lattice of k2") from None
            yield lattice
    if not seen:
        raise InputError(path, None, "no lattice", "at least one")


def write_k2_lattices(path: PathLike, lattices: Iterable[Lattice]) -> None:
    """Write one FsaVec when ``path`` ends in .pt (all in memory), else a folder of ``<utt>.pt``.

    Labels and ``aux_labels`` are word ids of a table that is stored along, as are the utterance
    ids; ``scores`` are acoustic + LM as float32, ``lm_scores`` the LM's. States are renumbered,
    and what lies on no path is left out. Raises ValueError for a lattice without a path, LM
    scores in only some lattices, an LM score of -inf, a score beyond float32, an utterance that
    comes twice or cannot be a file name, and a cycle.
    """
    seen: set[str] = set()

    def distinct() -> Iterator[Lattice]:
        for lattice in lattices:
            if lattice.utt in seen:
                raise ValueError(f"utterance {lattice.utt} comes twice")
            seen.add(lattice.utt)
            yield lattice

    if str(path).endswith(".pt"):
        _save(Path(path), _as_dict(list(distinct()), vector=True))
        return
    with output_folder(path, r".*\.pt") as folder:
        for lattice in distinct():
            if "/" in lattice.utt or lattice.utt.startswith("."):
                raise ValueError(f"utterance id {lattice.utt!r} cannot be a file name")
            _save(folder / f"{lattice.utt}.pt", _as_dict([lattice], vector=False))


def _load(path: Path) -> Any:
    torch = _torch()
    with open_binary(path) as stream:
        try:
            return torch.load(stream, map_location="cpu", weights_only=True)
        except _BROKEN as problem:
            reason = (str(problem).strip() or type(problem).__name__).splitlines()[0][:100]
            found = f"not loadable as plain tensors ({reason})"
            raise InputError(path, None, found, "torch.save(fsa.as_dict())") from None


def _torch() -> Any:
    import torch  # not at import time: reading other formats needs none

    return torch


def _saved(value: Any) -> _Saved:
    if not isinstance(value, dict) or "arcs" not in value:
        raise ValueError(f"a {type(value).__name__} without 'arcs'")
    raw = _array(value, "arcs", np.int32)
    if raw.ndim == 2 and raw.shape[1] == 4:
        arcs, splits = raw, [0, len(raw)]
        ends = {int(arc) for arc in raw[raw[:, 2] == -1, 1]}
        n_states = [max(ends, default=-1) + 1]
    elif raw.ndim == 1:
        arcs, n_states, splits = _vector(raw)
    else:
        raise ValueError(f"arcs of shape {tuple(raw.shape)}")
    n_arcs = len(arcs)
    ids = _array(value, "aux_labels", np.int32) if "aux_labels" in value else arcs[:, 2]
    lm = _array(value, "lm_scores", np.float32) if "lm_scores" in value else None
    for name, array in (("aux_labels", ids), ("lm_scores", lm)):
        if array is not None and array.shape != (n_arcs,):
            raise ValueError(f"{name} of shape {tuple(array.shape)} for {n_arcs} arcs")
    if lm is not None and not np.isfinite(lm).all():
        raise ValueError("lm_scores that are not finite")
    lists = {name: value.get(name) for name in (UTTS, WORDS)}
    for name, strings in lists.items():
        if strings is not None and not (
            isinstance(strings, list) and all(isinstance(text, str) for text in strings)
        ):
            raise ValueError(f"{name} is not a list of strings")
    lm = None if lm is None else lm.astype(np.float64)
    word_ids = ids.astype(np.int64)
    return _Saved(n_states, splits, arcs, word_ids, lm, lists[UTTS], lists[WORDS])


def _array(value: dict[str, Any], name: str, kind: Any) -> NDArray[Any]:
    tensor = value[name]
    if not isinstance(tensor, _torch().Tensor):
        raise ValueError(f"{name} is a {type(tensor).__name__}, not a tensor (ragged?)")
    try:
        array: NDArray[Any] = np.ascontiguousarray(tensor.detach().numpy())
    except (RuntimeError, TypeError) as problem:
        raise ValueError(f"{name}: {str(problem).splitlines()[0][:60]}") from None
    if array.dtype != kind:
        raise ValueError(f"{name} of type {array.dtype}, not {np.dtype(kind)}")
    return array


def _vector(raw: NDArray[Any]) -> tuple[NDArray[Any], list[int], list[int]]:
    """The arcs [A, 4], number of states of each Fsa and arc offsets of a serialised FsaVec."""
    count = int(raw[0]) if len(raw) >= 2 else -1
    head = 2 + 2 * (count + 1)
    if count < 0 or raw[1] != 0 or len(raw) < head or (len(raw) - head) % 4:
        raise ValueError(f"arcs of {len(raw)} numbers are no FsaVec")
    states, splits = raw[2 : 3 + count].astype(np.int64), raw[3 + count : head].astype(np.int64)
    arcs = raw[head:].reshape(-1, 4)
    for offsets in (states, splits):
        if offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise ValueError("offsets of an FsaVec that do not rise from 0")
    if splits[-1] != len(arcs):
        raise ValueError(f"{len(arcs)} arcs of {splits[-1]} stated")
    return arcs, np.diff(states).tolist(), splits.tolist()


def _ids(stem: str, saved: _Saved, listed: Optional[list[str]]) -> list[str]:
    count = len(saved.n_states)
    single = len(saved.splits) == 2
    ids = saved.utts if listed is None else listed
    if ids is None and single:
        return [stem]
    if ids is None:
        raise ValueError(f"an FsaVec of {count} lattices without ids: pass --utts FILE")
    if len(ids) != count:
        raise ValueError(f"{len(ids)} utterance ids for {count} lattices")
    return ids


def _lattice(utt: str, saved: _Saved, index: int, table: Optional[SymbolTable]) -> Lattice:
    first, last = saved.splits[index : index + 2]
    arcs, ids = saved.arcs[first:last], saved.word_ids[first:last]
    ending = arcs[:, 2] == -1
    ends = set(arcs[ending, 1].tolist())
    n_states = saved.n_states[index]
    if ends != {n_states - 1}:
        raise ValueError(f"{len(ends)} states entered by label -1; it must be the last of all")
    if (arcs[:, :2] >= n_states).any() or (ids[~ending] < 0).any():
        raise ValueError("a state or word id out of range")
    names = {-1: "", 0: ""}
    for number in sorted(set(ids.tolist()) - {-1, 0}):
        names[number] = _word(number, saved.words, table)
    word_of: dict[str, int] = {"": 0}
    word = [word_of.setdefault(names[number], len(word_of)) for number in ids.tolist()]
    scores = np.ascontiguousarray(arcs[:, 3]).view(np.float32).astype(np.float64)
    lm = None if saved.lm is None else saved.lm[first:last]
    lattice = Lattice(
        utt=utt,
        n_states=n_states,
        start=0,
        final=n_states - 1,
        words=tuple(word_of),
        src=arcs[:, 0].astype(np.int64),
        dst=arcs[:, 1].astype(np.int64),
        word=np.array(word, dtype=np.int64),
        acoustic=scores if lm is None else scores - lm,
        lm=lm,
    )
    topological_order(lattice)
    return lattice


def _word(number: int, stored: Optional[list[str]], table: Optional[SymbolTable]) -> str:
    if table is not None:
        return table.word(number)
    if stored is None:
        raise ValueError(f"word id {number} without a table: pass --words words.txt")
    if number >= len(stored):
        raise ValueError(f"word id {number} of {len(stored)} in {WORDS}")
    return "" if stored[number] in NO_WORDS else stored[number]


def _as_dict(lattices: list[Lattice], vector: bool) -> dict[str, Any]:
    if not lattices:
        raise ValueError("no lattice; an FsaVec of none cannot be read back")
    known = {lattice.lm is not None for lattice in lattices}
    if len(known) > 1:
        raise ValueError("LM scores in only some of the lattices")
    table: dict[str, int] = {"": 0}
    parts = [_arcs(lattice, table) for lattice in lattices]
    n_states = [int(arcs[:, :2].max()) + 1 for arcs, _, _ in parts]
    stored = np.concatenate([arcs for arcs, _, _ in parts])
    if vector:
        head = [len(lattices), 0]
        for sizes in (n_states, [len(arcs) for arcs, _, _ in parts]):
            head += [0, *np.cumsum(sizes).tolist()]
        stored = np.concatenate([np.array(head, dtype=np.int32), stored.reshape(-1)])
    torch = _torch()
    record = {
        "arcs": torch.from_numpy(stored),
        "aux_labels": torch.from_numpy(np.concatenate([labels for _, labels, _ in parts])),
        UTTS: [lattice.utt for lattice in lattices],
        WORDS: list(table),
    }
    if known == {True}:
        record["lm_scores"] = torch.from_numpy(np.concatenate([lm for _, _, lm in parts]))
    return record


def _arcs(lattice: Lattice, table: dict[str, int]) -> tuple[Arcs, Arcs, NDArray[np.float32]]:
    """Arcs [A, 4] in k2's order with label -1 into the last state, word ids [A], LM scores [A]."""
    lattice = sorted_lattice(lattice)
    if not lattice.n_arcs:
        raise ValueError(f"lattice {lattice.utt} has no path with an arc")
    ids = np.array([table.setdefault(word, len(table)) for word in lattice.words])
    labels = ids[lattice.word]
    lm = np.zeros(lattice.n_arcs) if lattice.lm is None else lattice.lm
    columns = [lattice.src, lattice.dst, labels, lattice.acoustic + lm, lm]
    entering = lattice.dst == lattice.final
    if (labels[entering] != 0).any():
        # words cannot enter k2's final state: one more state, one more arc
        last = [lattice.final, lattice.final + 1, 0, 0.0, 0.0]
        columns = [np.append(column, value) for column, value in zip(columns, last)]
        entering = np.append(np.zeros(lattice.n_arcs, dtype=bool), True)
    with np.errstate(over="ignore"):
        scores, lm32 = columns[3].astype(np.float32), columns[4].astype(np.float32)
    if not np.isfinite(lm32).all() or (np.isinf(scores) & np.isfinite(columns[3])).any():
        raise ValueError(f"lattice {lattice.utt}: a score that k2's float32 cannot hold")
    label = np.where(entering, -1, columns[2]).astype(np.int32)
    sides = [columns[0].astype(np.int32), columns[1].astype(np.int32)]
    return np.stack([*sides, label, scores.view(np.int32)], axis=1), label, lm32


def _save(path: Path, record: dict[str, Any]) -> None:
    with write_binary(path) as stream:
        _torch().save(record, stream)
