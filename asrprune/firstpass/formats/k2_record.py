"""What k2 keeps of lattices, ``fsa.as_dict()``, to Lattice and back; k2 itself is not needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.lattice.lattice import (
    EPSILON,
    Lattice,
    NoPathError,
    check_paths,
    check_size,
    sorted_lattice,
)
from asrprune.firstpass.reading.symbols import NO_WORDS

UTTS, WORDS = "utts", "word_table"
"""Attributes of our own in a saved lattice: utterance ids, and words by id ("" for epsilon)."""
Arcs = NDArray[np.int32]
WordOf = Callable[[int], str]
"""The word of an id above 0; ValueError for an id that it does not know."""


@dataclass(frozen=True)
class K2Record:
    """The arrays of an Fsa or FsaVec, checked: ``arcs`` [A, 4], word ids [A], LM scores [A].

    Lattice i has ``n_states[i]`` states and the arcs ``splits[i]`` to ``splits[i + 1]``.
    ``more`` has the second and later word ids of arcs with several; ``lm`` is None when there
    are no ``lm_scores``, ``utts`` and ``words`` when the record has no such lists.
    """

    n_states: list[int]
    splits: list[int]
    arcs: Arcs
    word_ids: NDArray[np.int64]
    lm: Optional[NDArray[np.float64]] = None
    utts: Optional[list[str]] = None
    words: Optional[list[str]] = None
    more: Mapping[int, list[int]] = field(default_factory=dict)

    def ids(self, listed: Optional[list[str]], name: str) -> list[str]:
        """The utterance ids: those ``listed``, else our own, else ``name`` for a single Fsa.

        Raises ValueError when there are none, or another number than there are lattices.
        """
        count = len(self.n_states)
        ids = self.utts if listed is None else listed
        if ids is None and count == 1:
            return [name]
        if ids is None:
            raise ValueError(f"an FsaVec of {count} lattices without ids: pass --utts FILE")
        if len(ids) != count:
            raise ValueError(f"{len(ids)} utterance ids for {count} lattices")
        return ids

    def lattice(self, utt: str, index: int, word_of: Optional[WordOf] = None) -> Lattice:
        """The lattice ``index`` with the id ``utt``; words by ``word_of``, else by our own table.

        Raises ValueError for an Fsa that is no acyclic lattice with one final state, and for word
        ids out of range or without a table; NoPathError for one without a path.
        """
        first, last = self.splits[index : index + 2]
        arcs, ids = self.arcs[first:last], self.word_ids[first:last]
        ending = arcs[:, 2] == -1
        ends = set(arcs[ending, 1].tolist())
        n_states = self.n_states[index]
        check_size(max(n_states, len(arcs)))
        if not len(arcs):
            raise NoPathError("an Fsa without arcs")
        if ends != {n_states - 1}:
            raise ValueError(f"{len(ends)} states entered by label -1; it must be the last of all")
        if (arcs[:, :2] >= n_states).any() or (ids < np.where(ending, -1, 0)).any():
            raise ValueError("a state or word id out of range")
        more = {arc - first: rest for arc, rest in self.more.items() if first <= arc < last}
        used = {*ids.tolist(), *(number for rest in more.values() for number in rest)}
        names = {-1: "", 0: ""}
        for number in sorted(used - {-1, 0}):
            names[number] = self._word(number, word_of)
        word_id: dict[str, int] = {"": EPSILON}
        numbers = {number: word_id.setdefault(names[number], len(word_id)) for number in names}
        scores = np.ascontiguousarray(arcs[:, 3]).view(np.float32).astype(np.float64)
        lm = None if self.lm is None else self.lm[first:last]
        lattice = Lattice(
            utt=utt,
            n_states=n_states,
            start=0,
            final=n_states - 1,
            words=tuple(word_id),
            src=arcs[:, 0].astype(np.int64),
            dst=arcs[:, 1].astype(np.int64),
            word=np.array([numbers[number] for number in ids.tolist()], dtype=np.int64),
            acoustic=scores if lm is None else scores - lm,
            lm=lm,
        )
        words = {arc: [numbers[number] for number in rest] for arc, rest in more.items()}
        lattice = _with_words(lattice, words)
        check_paths(lattice)
        return lattice

    def _word(self, number: int, word_of: Optional[WordOf]) -> str:
        if word_of is not None:
            return word_of(number)
        if self.words is None:
            raise ValueError(f"word id {number} without a table: pass --words words.txt")
        if number >= len(self.words):
            raise ValueError(f"word id {number} of {len(self.words)} in {WORDS}")
        return "" if self.words[number] in NO_WORDS else self.words[number]


def parse_record(value: Any) -> K2Record:
    """The checked record of an ``as_dict()``. Raises ValueError for anything else."""
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
    return K2Record(n_states, splits, arcs, word_ids, lm, lists[UTTS], lists[WORDS])


def make_record(
    lattices: list[Lattice], vector: bool, number: Optional[Callable[[str], int]] = None
) -> dict[str, Any]:
    """The ``as_dict()`` of one lattice, or of an FsaVec when ``vector``.

    Labels and ``aux_labels`` are word ids: ``number`` of each word, else those of a table of our
    own that is stored along; ``scores`` are acoustic + LM, ``lm_scores`` the LM's, float32. States
    are renumbered, what lies on no path is left out. Raises ValueError for no lattice, one without
    a path, LM scores in only some (but for lattices without words, of scores 0), an LM score of
    -inf, a score beyond float32, and a cycle.
    """
    import torch

    if not lattices:
        raise ValueError("no lattice; an FsaVec of none cannot be read back")
    known = {lattice.lm is not None for lattice in lattices if not _empty(lattice)} or {True}
    if len(known) > 1:
        raise ValueError("LM scores in only some of the lattices")
    table: dict[str, int] = {"": 0}
    number_of = number or (lambda word: table.setdefault(word, len(table)))
    parts = [_arcs(lattice, number_of) for lattice in lattices]
    n_states = [int(arcs[:, :2].max()) + 1 for arcs, _, _ in parts]
    stored = np.concatenate([arcs for arcs, _, _ in parts])
    if vector:
        head = [len(lattices), 0]
        for sizes in (n_states, [len(arcs) for arcs, _, _ in parts]):
            head += [0, *np.cumsum(sizes).tolist()]
        stored = np.concatenate([np.array(head, dtype=np.int32), stored.reshape(-1)])
    record: dict[str, Any] = {
        "arcs": torch.from_numpy(stored),
        "aux_labels": torch.from_numpy(np.concatenate([labels for _, labels, _ in parts])),
    }
    if vector:  # of a single Fsa, k2.create_fsa_vec would ask for the same ids in all
        record[UTTS] = [lattice.utt for lattice in lattices]
    if number is None:
        record[WORDS] = list(table)
    if known == {True}:
        record["lm_scores"] = torch.from_numpy(np.concatenate([lm for _, _, lm in parts]))
    return record


def _empty(lattice: Lattice) -> bool:
    """Whether it is that of an utterance in which nothing was heard."""
    lm = () if lattice.lm is None else lattice.lm
    return len(lm) > 0 and not any(np.any(each) for each in (lattice.word, lattice.acoustic, lm))


def _array(value: dict[str, Any], name: str, kind: Any) -> NDArray[Any]:
    import torch  # not at import time: reading other formats needs none

    tensor = value[name]
    if not isinstance(tensor, torch.Tensor):
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


def _with_words(lattice: Lattice, more: Mapping[int, list[int]]) -> Lattice:
    """The lattice with arcs of several words (``more``: the later ones) as chains of arcs."""
    if not more:
        return lattice
    dst, word = lattice.dst.tolist(), lattice.word.tolist()
    src, n_states = lattice.src.tolist(), lattice.n_states
    for arc, rest in more.items():
        end = dst[arc]
        dst[arc] = n_states  # the scores stay on the first arc of the chain
        for position, later in enumerate(rest):
            src.append(n_states)
            dst.append(end if position == len(rest) - 1 else n_states + 1)
            word.append(later)
            n_states += 1
    added = np.zeros(len(src) - lattice.n_arcs)
    return replace(
        lattice,
        n_states=n_states,
        src=np.array(src, dtype=np.int64),
        dst=np.array(dst, dtype=np.int64),
        word=np.array(word, dtype=np.int64),
        acoustic=np.concatenate([lattice.acoustic, added]),
        lm=None if lattice.lm is None else np.concatenate([lattice.lm, added]),
    )


def _arcs(
    lattice: Lattice, number_of: Callable[[str], int]
) -> tuple[Arcs, Arcs, NDArray[np.float32]]:
    """Arcs [A, 4] in k2's order with label -1 into the last state, word ids [A], LM scores [A]."""
    lattice = sorted_lattice(lattice)
    if not lattice.n_arcs:
        raise ValueError(f"lattice {lattice.utt} has no path with an arc")
    used = set(lattice.word.tolist())
    ids = np.array(
        [
            number_of(word) if word and index in used else 0
            for index, word in enumerate(lattice.words)
        ]
    )
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
