"""Lattices in pocketsphinx's own text format: words on nodes, acoustic scores on edges."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from asrprune.core.lattice.lattice import Lattice, check_paths, from_arcs
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
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
    ``utt`` defaults to the file name without ``.lat`` and ``.gz``.

    Raises InputError with the line for text that is not of this format, for another number of
    nodes than it states, for cycles, and when no path leads from start to final node.
    """
    if utt is None:
        name = Path(path).name
        utt = name.removesuffix(".gz").removesuffix(".lat")
    to_ln = math.log(1.0001)
    labels: list[str] = []
    times: list[float] = []
    stated: dict[str, int] = {}
    arcs: list[tuple[int, int, str, float, Optional[float]]] = []
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
                if section in ("Initial", "Final", "Nodes"):
                    if section in stated:
                        raise ValueError(f"{section} again")
                    stated[section] = whole(words[1], section)
            elif section == "Nodes":
                if whole(words[0], "node") != len(labels):
                    raise ValueError(f"node {words[0]} after {len(labels)} nodes")
                labels.append(plain_word(words[1]))
                times.append(whole(words[2], "frame") * FRAME_S)
            elif section == "Edges":
                source, target = whole(words[0], "node"), whole(words[1], "node")
                sign = -1 if words[2].startswith("-") else 1
                score = sign * whole(words[2].removeprefix("-"), "score")
                if len(words) != 3:
                    raise ValueError(f"{len(words)} columns")
                arcs.append((source, target, labels[target], score * to_ln, None))
            else:
                raise ValueError(f"a line in section {section or 'none'}")
        except (ValueError, IndexError) as problem:
            found = f"utterance {utt}: {line[:40]!r} ({problem})"
            raise InputError(path, number, found, "a pocketsphinx lattice") from None
    if not complete or len(stated) < 3:
        raise InputError(
            path, number or None, f"utterance {utt}: an end before 'End'", "a whole file"
        )
    if len(labels) != stated["Nodes"]:
        found = f"utterance {utt}: {len(labels)} nodes of {stated['Nodes']} stated"
        raise InputError(path, None, found, "all nodes")
    try:
        start, final = stated["Initial"], stated["Final"]
        lattice = from_arcs(utt, len(labels), start, final, arcs, times=times)
        check_paths(lattice)
    except ValueError as problem:
        raise InputError(path, None, str(problem), "an acyclic lattice") from None
    return lattice


def _log_base(text: str) -> float:
    base = float(text)
    if not 1.0 < base < math.inf:  # 1 would make all scores 0, a smaller one change their sign
        raise ValueError(f"log base {text}")
    return math.log(base)


def read_pocketsphinx_lats(path: PathLike) -> Iterator[Lattice]:
    """The lattices of one file, or of all ``.lat`` and ``.lat.gz`` files of a folder by name.

    Raises InputError as ``read_pocketsphinx_lat`` does, and for a folder without such files.
    """
    if not Path(path).is_dir():
        yield read_pocketsphinx_lat(path)
        return
    files = sorted(file for file in Path(path).iterdir() if file.name.endswith((".lat", ".lat.gz")))
    if not files:
        raise InputError(path, None, "no lattice in this folder", "*.lat or *.lat.gz")
    for file in files:
        yield read_pocketsphinx_lat(file)
