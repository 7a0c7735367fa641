"""Lattices in pocketsphinx's own text format: words on nodes, acoustic scores on edges."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from asrprune.core.lattice.lattice import Lattice, NoPathError, check_paths, check_size, from_arcs
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
from asrprune.firstpass.on_bad import REFUSE, NothingFoundError, OnBad, empty_lattice
from asrprune.firstpass.reading.numbers import whole
from asrprune.firstpass.reading.words import plain_word

FRAME_S = 0.01
"""Seconds a frame (the decoder's default of 100 frames a second)."""


def read_pocketsphinx_lat(path: PathLike, utt: Optional[str] = None) -> Lattice:
    """The lattice of one file; LM scores are not in the format and stay None.

    An edge's score (an integer log in the base that the header states) becomes a natural log.
    It holds the acoustic score of the node that it leaves and, where it enters a filler node,
    that filler's penalty. The acoustic score of the final node is not in the file; it is the
    same for all paths. A node's word is put on the edges that enter it; fillers become epsilon.
    ``utt`` defaults to the file name without ``.lat`` and ``.gz``. The columns of
    an edge are found by the names in the heading, in any order.

    Raises InputError with the line for text that is not of this format, for a heading with other
    columns (an LM score, say, of which the acoustic score would have to be known to be free), for
    another number of nodes than it states, and for cycles; its kind NothingFoundError when no path
    leads from start to final node.
    """
    if utt is None:
        name = Path(path).name
        utt = name.removesuffix(".gz").removesuffix(".lat")
    to_ln = math.log(1.0001)
    labels: list[str] = []
    times: list[float] = []
    stated: dict[str, int] = {}
    arcs: list[tuple[int, int, str, float, Optional[float]]] = []
    columns = dict(_COLUMNS)
    section, complete, number = "", False, 0
    for number, line in read_lines(path):
        words = line.split()
        try:
            if line.startswith("# -logbase"):
                to_ln = _log_base(words[2])
            elif not words or words[0].startswith("#"):
                continue
            elif words[0] in ("Frames", "Nodes", "Edges", "BestSegAscr", "Initial", "Final", "End"):
                section = words[0]
                complete = section == "End"
                if section in _COLUMNS and "(" in line:
                    columns[section] = _columns(line, _COLUMNS[section])
                if section in ("Initial", "Final", "Nodes"):
                    if section in stated:
                        raise ValueError(f"{section} again")
                    stated[section] = whole(words[1], section)
            elif section == "Nodes":
                node, word, frame = (
                    words[columns[section].index(name)] for name in _COLUMNS[section][:3]
                )
                if whole(node, "node") != len(labels):
                    raise ValueError(f"node {node} after {len(labels)} nodes")
                labels.append(plain_word(word))
                times.append(whole(frame, "frame") * FRAME_S)
                check_size(len(labels))
            elif section == "Edges":
                if len(words) != 3:
                    raise ValueError(f"{len(words)} columns")
                first, second, value = (
                    words[columns[section].index(name)] for name in _COLUMNS[section]
                )
                source, target = whole(first, "node"), whole(second, "node")
                sign = -1 if value.startswith("-") else 1
                score = sign * whole(value.removeprefix("-"), "score")
                arcs.append((source, target, labels[target], score * to_ln, None))
                check_size(len(arcs))
            else:
                raise ValueError(f"a line in section {section or 'none'}")
        except (ValueError, IndexError) as problem:
            found = f"utterance {utt}: {line[:40]!r} ({problem})"
            raise InputError(path, number, found, "a pocketsphinx lattice") from None
    if not complete or len(stated) < 3:
        if number == 0:
            raise _nothing(path, utt, "an empty file")
        raise InputError(path, number, f"utterance {utt}: an end before 'End'", "a whole file")
    if len(labels) != stated["Nodes"]:
        found = f"utterance {utt}: {len(labels)} nodes of {stated['Nodes']} stated"
        raise InputError(path, None, found, "all nodes")
    try:
        start, final = stated["Initial"], stated["Final"]
        lattice = from_arcs(utt, len(labels), start, final, arcs, times=times)
        check_paths(lattice)
    except NoPathError:
        raise _nothing(path, utt, "no path from the initial to the final node") from None
    except ValueError as problem:
        if not arcs:
            raise _nothing(path, utt, "a lattice without edges") from None
        raise InputError(path, None, str(problem), "an acyclic lattice") from None
    return lattice


_COLUMNS = {
    "Nodes": ("NODEID", "WORD", "STARTFRAME", "FIRST-ENDFRAME", "LAST-ENDFRAME"),
    "Edges": ("FROM-NODEID", "TO-NODEID", "ASCORE"),
}
"""Section -> its columns, as pocketsphinx heads them."""


def _columns(heading: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """The columns in their order, of ``Edges (FROM-NODEID TO-NODEID ASCORE)``."""
    names = tuple(heading.partition("(")[2].partition(")")[0].upper().split())
    if sorted(names) != sorted(known):
        raise ValueError(f"columns {' '.join(names)}; known: {' '.join(known)}")
    return names


def _nothing(path: PathLike, utt: str, found: str) -> NothingFoundError:
    return NothingFoundError(path, None, empty_lattice(utt), found)


def _log_base(text: str) -> float:
    base = float(text)
    if not 1.0 < base < math.inf:  # 1 would make all scores 0, a smaller one change their sign
        raise ValueError(f"log base {text}")
    return math.log(base)


def read_pocketsphinx_lats(path: PathLike, bad: OnBad = REFUSE) -> Iterator[Lattice]:
    """The lattices of one file, or of all ``.lat`` and ``.lat.gz`` files of a folder by name.

    ``bad`` decides what becomes of a lattice without a path, an empty file among them. Raises
    InputError as ``read_pocketsphinx_lat`` does, and for a folder without such files.
    """
    files = [Path(path)]
    if Path(path).is_dir():
        names = (".lat", ".lat.gz")
        files = sorted(file for file in Path(path).iterdir() if file.name.endswith(names))
        if not files:
            raise InputError(path, None, "no lattice in this folder", "*.lat or *.lat.gz")
    for file in files:
        try:
            yield read_pocketsphinx_lat(file)
        except NothingFoundError as problem:
            yield from bad(problem)
