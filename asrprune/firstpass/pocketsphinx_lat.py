"""Lattices in pocketsphinx's own text format: words on nodes, acoustic scores on edges."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from asrprune.core.lattice import Lattice, from_arcs, topological_order
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
from asrprune.firstpass.words import plain_word

FRAME_S = 0.01
"""Seconds a frame (the decoder's default of 100 frames a second)."""


def read_pocketsphinx_lat(path: PathLike, utt: Optional[str] = None) -> Lattice:
    """The lattice of one file; LM scores are not in the format and stay None.

    An edge's score (an integer log in the base that the header states) becomes a natural log.
    It holds the acoustic score of the node that it leaves and, where it enters a filler node,
    that filler's penalty. The acoustic score of the final node is not in the file; it is the
    same for all paths. A node's word is put on the edges that enter it; fillers become epsilon.
    ``utt`` defaults to the file name without ``.lat`` and ``.gz``.

    Raises InputError with the line for text that is not of this format, and for cycles.
    """
    if utt is None:
        name = Path(path).name
        utt = name.removesuffix(".gz").removesuffix(".lat")
    to_ln = math.log(1.0001)
    labels: list[str] = []
    times: list[float] = []
    ends: dict[str, int] = {}
    arcs: list[tuple[int, int, str, float, Optional[float]]] = []
    section, complete, number = "", False, 0
    for number, line in read_lines(path):
        words = line.split()
        try:
            if line.startswith("# -logbase"):
                to_ln = math.log(float(words[2]))
            elif not words or words[0].startswith("#"):
                continue
            elif words[0] in ("Frames", "Nodes", "Edges", "BestSegAscr", "Initial", "Final", "End"):
                section = words[0]
                complete = section == "End"
                if section in ("Initial", "Final"):
                    ends[section] = int(words[1])
            elif section == "Nodes":
                if int(words[0]) != len(labels):
                    raise ValueError(f"node {words[0]} after {len(labels)} nodes")
                labels.append(plain_word(words[1]))
                times.append(int(words[2]) * FRAME_S)
            elif section == "Edges":
                source, target, score = (int(word) for word in words)
                arcs.append((source, target, labels[target], score * to_ln, None))
            else:
                raise ValueError(f"a line in section {section or 'none'}")
        except (ValueError, IndexError) as problem:
            found = f"utterance {utt}: {line[:40]!r} ({problem})"
            raise InputError(path, number, found, "a pocketsphinx lattice") from None
    if not complete or len(ends) < 2:
        raise InputError(
            path, number or None, f"utterance {utt}: an end before 'End'", "a whole file"
        )
    try:
        lattice = from_arcs(utt, len(labels), ends["Initial"], ends["Final"], arcs, times=times)
        topological_order(lattice)
    except ValueError as problem:
        raise InputError(path, None, str(problem), "an acyclic lattice") from None
    return lattice


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
