"""One lattice inside a Kaldi archive: OpenFst text and binary, CompactLattice and Lattice."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Union

from asrprune.core.lattice.lattice import check_size
from asrprune.firstpass.reading.numbers import from_cost, to_cost, whole

MAGIC = struct.pack("<i", 2125659606)
"""The first bytes of an OpenFst file."""
_WEIGHT = re.compile(r"([^,\s]+),([^,\s]+)(,[0-9_]*)?")
_ARC_TYPES = ("compactlattice44", "lattice4")
_EXPANDED_MUTABLE = 0x3
_ZERO = float("inf")
Label = Union[int, str]
Arc = tuple[int, int, Label, float, float]


@dataclass
class WordFst:
    """States and arcs as they are stored, with scores instead of costs.

    ``arcs`` hold (source, destination, word id or symbol, lm, acoustic), ``finals`` the
    (lm, acoustic) of the final states; natural logs, unscaled. ``lm`` is Kaldi's graph score: LM,
    lexicon and transitions. Transition ids are not kept.
    """

    start: int = -1
    n_states: int = 0
    arcs: list[Arc] = field(default_factory=list)
    finals: dict[int, tuple[float, float]] = field(default_factory=dict)


def parse_text(lines: Iterator[tuple[int, str]]) -> WordFst:
    """The lattice on the lines up to a blank one, which is read too.

    Weights ``graph,acoustic,ids`` make it a CompactLattice, ``graph,acoustic`` a Lattice; a line
    has 1 or 2 columns for a final state, 3 or 4 (compact) or 4 or 5 columns for an arc. States
    are numbered anew in the order of their numbers. Raises ValueError naming the line's flaw
    (the caller knows the line from its iterator), also for an end before the blank line.
    Source: Kaldi ``lat/kaldi-lattice.cc``, ``fstext/lattice-weight.h``.
    """
    fst = WordFst()
    kinds: set[bool] = set()
    for _, line in lines:
        columns = line.split()
        if not columns:
            break
        kind = _add_line(fst, columns)
        kinds |= set() if kind is None else {kind}
        check_size(max(len(fst.arcs), len(fst.finals)))
        if len(kinds) > 1:
            raise ValueError(f"{line.strip()[:60]!r} mixes Lattice and CompactLattice")
    else:
        raise ValueError("an end before the blank line that closes a lattice")
    states = {arc[side] for arc in fst.arcs for side in (0, 1)} | set(fst.finals)
    number = {state: index for index, state in enumerate(sorted(states))}
    fst.arcs = [(number[arc[0]], number[arc[1]], *arc[2:]) for arc in fst.arcs]
    fst.finals = {number[state]: weight for state, weight in fst.finals.items()}
    fst.start, fst.n_states = number.get(fst.start, -1), len(number)
    return fst


def _add_line(fst: WordFst, columns: list[str]) -> Union[bool, None]:
    """Take one line; returns whether it is of a CompactLattice, None when it could be of both."""
    source = whole(columns[0], "state")
    fst.start = source if fst.start < 0 else fst.start
    compact: Union[bool, None] = None
    weight = (0.0, 0.0)
    if len(columns) in (2, 5) or (len(columns) == 4 and "," in columns[3]):
        match = _WEIGHT.fullmatch(columns[-1])
        if match is None:
            raise ValueError(f"weight {columns[-1][:40]!r} is not graph,acoustic[,ids]")
        weight = (from_cost(match.group(1)), from_cost(match.group(2)))
        compact = match.group(3) is not None
    if len(columns) <= 2:
        if source in fst.finals:
            raise ValueError(f"state {source} is final twice")
        fst.finals[source] = weight
        return compact
    if len(columns) > 5 or compact not in (None, len(columns) < 5):
        raise ValueError(f"{' '.join(columns)[:60]!r} is no line of a lattice")
    if len(columns) == 3:
        compact = True
    elif len(columns) == 4 and compact is None:
        compact = False
    label = columns[2] if compact else columns[3]
    if not compact:
        whole(columns[2], "transition id")
    fst.arcs.append((source, whole(columns[1], "state"), label, *weight))
    return compact


def format_text(fst: WordFst, compact: bool) -> str:
    """The lattice as text, arcs of the start state first, with the blank line that closes it.

    Raises ValueError when the start state has no arc and is not final: text cannot say it.
    """
    first = [arc for arc in fst.arcs if arc[0] == fst.start]
    arcs = fst.arcs
    if arcs and arcs[0][0] != fst.start:
        arcs = first + [arc for arc in fst.arcs if arc[0] != fst.start]
    lines = []
    if not first:
        if fst.start not in fst.finals:
            raise ValueError(f"start state {fst.start} has no arc and is not final")
        lines.append(_final_line(fst, fst.start, compact))
    for source, target, label, lm, acoustic in arcs:
        columns = [str(source), str(target), *([] if compact else ["0"]), str(label)]
        weight = f"{to_cost(lm)},{to_cost(acoustic)}" + ("," if compact else "")
        lines.append("\t".join([*columns, weight]))
    for state in fst.finals:
        line = _final_line(fst, state, compact)
        lines += [] if state == fst.start and not first else [line]
    return "\n".join([*lines, "", ""])


def _final_line(fst: WordFst, state: int, compact: bool) -> str:
    lm, acoustic = fst.finals[state]
    if lm == acoustic == 0.0:
        return str(state)
    return f"{state}\t{to_cost(lm)},{to_cost(acoustic)}" + ("," if compact else "")


def parse_binary(read: Callable[[int], bytes]) -> WordFst:
    """The lattice in an OpenFst VectorFst after its magic number, word ids as labels.

    ``read(n)`` returns n bytes or raises. An FST without states starts in state -1. Raises
    ValueError for other kinds of FST (only ``vector`` of ``compactlattice44`` or ``lattice4``),
    symbol tables inside, and states or weights that cannot be. Source: OpenFst ``fst.cc``,
    ``vector-fst.h``.
    """

    def integer(form: str) -> int:
        value: int = struct.unpack("<" + form, read(struct.calcsize("<" + form)))[0]
        return value

    def name() -> str:
        size = integer("i")
        if not 0 <= size <= 64:
            raise ValueError(f"a name of {size} bytes in the header of an FST")
        return read(size).decode("latin-1")

    fst_type, arc_type = name(), name()
    version, flags, _ = integer("i"), integer("i"), integer("Q")
    if fst_type != "vector" or arc_type not in _ARC_TYPES or version != 2:
        raise ValueError(f"an FST {fst_type!r} of {arc_type!r}, version {version}")
    if flags & 0x3:
        raise ValueError("an FST with a symbol table inside")
    start, n_states, _ = integer("q"), integer("q"), integer("q")
    if (start, n_states) == (-1, 0):
        return WordFst()
    if not 0 <= start < n_states:
        raise ValueError(f"start state {start} of {n_states} states")
    compact = arc_type.startswith("compact")
    fst = WordFst(start, n_states)
    for state in range(n_states):
        final = _binary_weight(read, compact)
        if final != (-_ZERO, -_ZERO):
            fst.finals[state] = final
        n_arcs = integer("q")
        if n_arcs < 0:
            raise ValueError(f"{n_arcs} arcs at state {state}")
        for _ in range(n_arcs):
            _, label = struct.unpack("<ii", read(8))
            weight = _binary_weight(read, compact)
            target = integer("i")
            if not 0 <= target < n_states or label < 0:
                raise ValueError(f"an arc of word {label} to state {target} of {n_states}")
            fst.arcs.append((state, target, label, *weight))
        check_size(max(state, len(fst.arcs)))
    return fst


def _binary_weight(read: Callable[[int], bytes], compact: bool) -> tuple[float, float]:
    graph, acoustic = struct.unpack("<ff", read(8))
    for cost in (graph, acoustic):
        if not cost > -_ZERO:
            raise ValueError(f"cost {cost} in a weight")
    if compact:
        (count,) = struct.unpack("<i", read(4))
        if count < 0:
            raise ValueError(f"{count} transition ids in a weight")
        while count > 0:  # in pieces: a damaged count must not ask for all memory
            read(4 * min(count, 65536))
            count -= 65536
    return 0.0 - graph, 0.0 - acoustic


def format_binary(fst: WordFst, compact: bool) -> bytes:
    """The lattice as an OpenFst VectorFst; labels must be word ids, scores become float32.

    Raises ValueError for a word id or a score beyond 32 bits.
    """
    names = (b"vector", _ARC_TYPES[0 if compact else 1].encode())
    parts = [MAGIC, *(struct.pack("<i", len(text)) + text for text in names)]
    parts.append(struct.pack("<iiQqqq", 2, 0, _EXPANDED_MUTABLE, fst.start, fst.n_states, 0))
    leaving: list[list[Arc]] = [[] for _ in range(fst.n_states)]
    for arc in fst.arcs:
        leaving[arc[0]].append(arc)
    tail = b"\0\0\0\0" if compact else b""
    try:
        for state, arcs in enumerate(leaving):
            lm, acoustic = fst.finals.get(state, (-_ZERO, -_ZERO))
            parts.append(struct.pack("<ff", 0.0 - lm, 0.0 - acoustic) + tail)
            parts.append(struct.pack("<q", len(arcs)))
            for _, target, label, arc_lm, arc_acoustic in arcs:
                parts.append(struct.pack("<ii", label if compact else 0, label))
                parts.append(struct.pack("<ff", 0.0 - arc_lm, 0.0 - arc_acoustic) + tail)
                parts.append(struct.pack("<i", target))
    except (struct.error, OverflowError) as problem:
        raise ValueError(f"a score or word id that Kaldi cannot hold ({problem})") from None
    return b"".join(parts)
