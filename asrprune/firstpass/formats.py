"""Formats of n-best lists and lattices: one file a format, one line each in ``FORMATS``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Optional, Union

from asrprune.core.hypothesis import NBest
from asrprune.core.lattice import Lattice
from asrprune.core.lattice_paths import k_best
from asrprune.core.weights import ScoreWeights
from asrprune.firstpass.hyporadise import read_hyporadise
from asrprune.firstpass.jsonl import read_nbest, write_nbest
from asrprune.firstpass.mlm_json import read_mlm_json, write_mlm_json
from asrprune.firstpass.pocketsphinx_lat import read_pocketsphinx_lats
from asrprune.firstpass.slf import read_slf_files, write_slf_files

Item = Union[NBest, Lattice]


@dataclass(frozen=True)
class Format:
    """How one format is read and written.

    ``kind`` is "nbest" or "lattice" and says what ``read(path)`` yields and ``write(path, items)``
    takes; ``write`` is None for a format that is only read. ``extensions`` are those of its files,
    without the dot; where the kind is "lattice" a path may be a folder of such files.
    """

    name: str
    kind: str
    read: Callable[[str], Iterator[Item]]
    write: Optional[Callable[[str, Iterable[Any]], None]]
    description: str
    extensions: tuple[str, ...]


FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        Format(
            "jsonl",
            "nbest",
            read_nbest,
            write_nbest,
            "canonical n-best lists, JSON lines, acoustic and LM scores apart",
            ("jsonl", "jsonl.gz"),
        ),
        Format(
            "slf",
            "lattice",
            read_slf_files,
            write_slf_files,
            "HTK standard lattice format, a file or a folder of files",
            ("slf", "slf.gz", "lat", "lat.gz"),
        ),
        Format(
            "pocketsphinx-lat",
            "lattice",
            read_pocketsphinx_lats,
            None,
            "pocketsphinx's own lattices (no LM scores), a file or a folder of files",
            ("lat", "lat.gz"),
        ),
        Format(
            "mlm-json",
            "nbest",
            read_mlm_json,
            write_mlm_json,
            "JSON of mlm-scoring: one score a hypothesis, read as the acoustic score",
            ("json", "json.gz"),
        ),
        Format(
            "hyporadise",
            "nbest",
            read_hyporadise,
            None,
            "HyPoradise JSON: hypotheses in rank order without ids and scores",
            ("json", "json.gz"),
        ),
    )
}
"""name -> format, the canonical one first."""


def lattice_nbest(lattice: Lattice, nbest: int, weights: ScoreWeights) -> NBest:
    """The ``nbest`` best distinct hypotheses of a lattice under ``weights``, as an n-best list.

    Raises ValueError when the lattice has no path, and as ``k_best`` does.
    """
    hyps = k_best(lattice, nbest, weights)
    if not hyps:
        raise ValueError(f"lattice {lattice.utt} has no path from start to final state")
    return NBest(lattice.utt, hyps, lattice.audio_s)
