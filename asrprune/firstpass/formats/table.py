"""Formats of n-best lists and lattices: one file a format, one line each in ``FORMATS``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union

from asrprune.core.hypothesis import NBest
from asrprune.core.lattice.lattice import Lattice, NoPathError
from asrprune.core.lattice.paths import k_best
from asrprune.core.tables import lookup
from asrprune.core.weights import ScoreWeights
from asrprune.firstpass.formats.espnet1_json import read_espnet1_json
from asrprune.firstpass.formats.espnet2 import read_espnet2
from asrprune.firstpass.formats.flashlight import read_flashlight
from asrprune.firstpass.formats.hyporadise import read_hyporadise
from asrprune.firstpass.formats.jsonl import read_nbest, write_nbest
from asrprune.firstpass.formats.k2_lattice import read_k2_lattices, write_k2_lattices
from asrprune.firstpass.formats.kaldi_lat import (
    read_kaldi_lats,
    write_kaldi_binary_lats,
    write_kaldi_lats,
    write_kaldi_plain_lats,
)
from asrprune.firstpass.formats.kaldi_nbest import read_kaldi_nbest, write_kaldi_nbest
from asrprune.firstpass.formats.mlm_json import read_mlm_json, write_mlm_json
from asrprune.firstpass.formats.nemo_tsv import read_nemo_tsv
from asrprune.firstpass.formats.nim_json import read_nim_json
from asrprune.firstpass.formats.parakeet_json import read_parakeet_json
from asrprune.firstpass.formats.pocketsphinx_lat import read_pocketsphinx_lats
from asrprune.firstpass.formats.pocketsphinx_nbest import read_pocketsphinx_nbest
from asrprune.firstpass.formats.result_json import read_sherpa_json, read_vosk_json, read_wenet_json
from asrprune.firstpass.formats.slf import read_slf_files, write_slf_files
from asrprune.firstpass.formats.srilm_nbest import read_srilm_nbest, write_srilm_nbest
from asrprune.firstpass.formats.wenet import read_wenet
from asrprune.firstpass.formats.whisper_json import read_whisper_json
from asrprune.firstpass.on_bad import REFUSE, OnBad
from asrprune.firstpass.reading.numbers import whole

Item = Union[NBest, Lattice]


@dataclass(frozen=True)
class Option:
    """What a reader or writer may need beside its path: ``--name METAVAR`` of the verbs."""

    metavar: str
    help: str
    parse: Callable[[str], Any] = str


def _log_base(text: str) -> float:
    return math.e if text == "e" else float(text)


def _beam_size(text: str) -> int:
    size = whole(text, "beam size")
    if size < 1:
        raise ValueError(text)
    return size


OPTIONS: dict[str, Option] = {
    "like": Option("FOLDER", "lat.JOB.gz files with OUT's utterances; OUT gets the same jobs"),
    "lm_base": Option("BASE", "base of IN's LM scores: e or a number", _log_base),
    "manifest": Option("FILE", "NeMo manifest that IN was decoded from"),
    "manifest_id": Option("KEY", "entry of the manifest's lines that is the utterance id"),
    "beam_size": Option("N", "hypotheses of every utterance of IN", _beam_size),
    "utts": Option("FILE", "utterance ids of IN's lattices, one a line, in their order"),
    "words": Option("FILE", "words.txt, the table of word ids (or icefall's tokens.txt)"),
}
"""name -> option, shared by all formats."""


@dataclass(frozen=True)
class Format:
    """How one format is read and written.

    ``kind`` is "nbest" or "lattice" and says what ``read(path)`` yields and ``write(path, items)``
    takes; ``write`` is None for a format that is only read. ``extensions`` are those of its files,
    without the dot ("" for a folder); where the kind is "lattice" a path may be a folder of files.
    ``holds`` names what a written file keeps of NBest or Lattice besides utterances and words.
    ``read_options`` and ``write_options`` name entries of OPTIONS, which ``read`` and ``write``
    take as keyword arguments; ``needs`` are the read options without which nothing can be read.
    ``empties``: an utterance may have no hypothesis or path, and ``read`` takes the policy ``bad``.
    ``finite``: written files cannot hold a score of -inf. ``file_each``: a folder that is written
    holds one file for each utterance, which says nothing of the others.
    """

    name: str
    kind: str
    read: Callable[..., Iterator[Item]]
    write: Optional[Callable[..., None]]
    description: str
    extensions: tuple[str, ...]
    holds: tuple[str, ...] = ("acoustic", "lm")
    read_options: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    write_options: tuple[str, ...] = ()
    empties: bool = False
    finite: bool = False
    file_each: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether a folder can be written, not a single file only."""
        return self.kind == "lattice" or "" in self.extensions


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
            ("acoustic", "lm", "ref", "audio_s", "tokens"),
            finite=True,
            empties=True,
        ),
        Format(
            "slf",
            "lattice",
            read_slf_files,
            write_slf_files,
            "HTK standard lattice format, a file or a folder of files",
            ("slf", "slf.gz", "lat", "lat.gz"),
            ("acoustic", "lm", "times", "weights"),
            empties=True,
            file_each=True,
        ),
        Format(
            "pocketsphinx-lat",
            "lattice",
            read_pocketsphinx_lats,
            None,
            "pocketsphinx's own lattices (no LM scores), a file or a folder of files",
            ("lat", "lat.gz"),
            empties=True,
        ),
        Format(
            "mlm-json",
            "nbest",
            read_mlm_json,
            write_mlm_json,
            "JSON of mlm-scoring: one score a hypothesis, read as the acoustic score",
            ("json", "json.gz"),
            ("acoustic", "ref"),
            empties=True,
            finite=True,
        ),
        Format(
            "hyporadise",
            "nbest",
            read_hyporadise,
            None,
            "HyPoradise JSON: hypotheses in rank order without ids and scores",
            ("json", "json.gz"),
            (),
            empties=True,
        ),
        Format(
            "kaldi-nbest",
            "nbest",
            read_kaldi_nbest,
            write_kaldi_nbest,
            "folder of Kaldi text archives words_text or words, acwt, lmwt or lmwt.withlm "
            "(nbest-to-linear, rnnlmrescore.sh)",
            ("",),
            read_options=("words",),
            write_options=("words",),
        ),
        Format(
            "kaldi-lat",
            "lattice",
            read_kaldi_lats,
            write_kaldi_lats,
            "Kaldi lattices, any kind read; written as CompactLattice text, file or folder",
            ("lat.gz", "ark", ""),
            read_options=("words",),
            write_options=("words", "like"),
            empties=True,
        ),
        Format(
            "kaldi-lat-plain",
            "lattice",
            read_kaldi_lats,
            write_kaldi_plain_lats,
            "as kaldi-lat, written as Lattice text (transducer arcs)",
            ("lat.gz", "ark", ""),
            read_options=("words",),
            write_options=("words", "like"),
            empties=True,
        ),
        Format(
            "kaldi-lat-binary",
            "lattice",
            read_kaldi_lats,
            write_kaldi_binary_lats,
            "as kaldi-lat, written as binary CompactLattice",
            ("", "lat.gz", "ark"),
            read_options=("words",),
            write_options=("words", "like"),
            empties=True,
        ),
        Format(
            "srilm-nbest",
            "nbest",
            read_srilm_nbest,
            write_srilm_nbest,
            "SRILM n-best, three layouts read, the plain one written; a file or a folder of files",
            ("",),
            ("acoustic", "lm"),
            empties=True,
            file_each=True,
        ),
        Format(
            "espnet2",
            "nbest",
            read_espnet2,
            None,
            "ESPnet2 folders of {1..n}best_recog: one total a hypothesis",
            ("",),
            ("acoustic", "tokens"),
        ),
        Format(
            "espnet1-json",
            "nbest",
            read_espnet1_json,
            None,
            "ESPnet1 data.json with results: one total a hypothesis",
            ("json", "json.gz"),
            ("acoustic", "ref"),
        ),
        Format(
            "nemo-tsv",
            "nbest",
            read_nemo_tsv,
            None,
            "NeMo beam-search TSV with its manifest: one total a hypothesis",
            ("tsv", "tsv.gz"),
            ("acoustic", "ref", "audio_s"),
            read_options=("manifest", "manifest_id", "beam_size"),
            needs=("manifest",),
        ),
        Format(
            "wenet",
            "nbest",
            read_wenet,
            None,
            "WeNet decoder_main --output_nbest: one total a hypothesis",
            ("txt", "txt.gz"),
            ("acoustic",),
        ),
        Format(
            "flashlight",
            "nbest",
            read_flashlight,
            None,
            "wav2letter / flashlight beam dump, acoustic and LM scores apart",
            ("txt", "txt.gz"),
            ("acoustic", "lm"),
            read_options=("lm_base",),
            needs=("lm_base",),
        ),
        Format(
            "vosk-json",
            "nbest",
            read_vosk_json,
            None,
            "Vosk JSON with alternatives, a file or a folder: one total a hypothesis",
            ("json", "json.gz"),
            ("acoustic",),
            empties=True,
        ),
        Format(
            "sherpa-json",
            "nbest",
            read_sherpa_json,
            None,
            "sherpa-onnx result JSON, a file or a folder",
            ("json", "json.gz"),
            ("acoustic", "tokens"),
            empties=True,
        ),
        Format(
            "parakeet-json",
            "nbest",
            read_parakeet_json,
            None,
            "parakeet.cpp --nbest JSON, a file or a folder: one total a hypothesis",
            ("json", "json.gz"),
            ("acoustic", "tokens"),
            empties=True,
        ),
        Format(
            "whisper-json",
            "nbest",
            read_whisper_json,
            None,
            "JSON of openai-whisper, faster-whisper, whisper.cpp, a file or a folder: alternatives "
            "where there are any, else one hypothesis",
            ("json", "json.gz"),
            ("acoustic", "audio_s"),
            empties=True,
        ),
        Format(
            "nim-json",
            "nbest",
            read_nim_json,
            None,
            "NVIDIA NIM and Riva results as JSON, a file or a folder: alternatives in rank order",
            ("json", "json.gz"),
            (),
            empties=True,
        ),
        Format(
            "wenet-json",
            "nbest",
            read_wenet_json,
            None,
            "final results of WeNet's API, a file or a folder: rank order without scores",
            ("json", "json.gz"),
            (),
            empties=True,
        ),
        Format(
            "pocketsphinx-nbest",
            "nbest",
            read_pocketsphinx_nbest,
            None,
            "pocketsphinx n-best files: one total a hypothesis",
            ("nbest", "hyp", ""),
            ("acoustic",),
            empties=True,
        ),
        Format(
            "k2",
            "lattice",
            read_k2_lattices,
            write_k2_lattices,
            "k2 lattices, torch.save(fsa.as_dict()) of an Fsa or FsaVec; a file or a folder",
            ("pt", ""),
            read_options=("words", "utts"),
            write_options=("words",),
            empties=True,
            file_each=True,
        ),
    )
}
"""name -> format, the canonical one first."""


def read_items(
    name: str, path: str, options: Mapping[str, Any], bad: OnBad = REFUSE
) -> Iterator[Item]:
    """What the file or folder ``path`` of format ``name`` holds, in its order.

    ``bad`` decides what becomes of utterances without a hypothesis or a path. Raises ValueError for
    an unknown format, an option that it does not take, and one that it needs; InputError as its
    reader does.
    """
    entry = lookup(FORMATS, name, "format")
    for option in options:
        if option not in entry.read_options:
            raise ValueError(f"--{option.replace('_', '-')} has no use for format {name}")
    for option in entry.needs:
        if option not in options:
            flag = f"--{option.replace('_', '-')} {OPTIONS[option].metavar}"
            raise ValueError(f"format {name} needs {flag} ({OPTIONS[option].help})")
    return entry.read(path, **options, bad=bad) if entry.empties else entry.read(path, **options)


def lattice_nbest(lattice: Lattice, nbest: int, weights: ScoreWeights) -> NBest:
    """The ``nbest`` best distinct hypotheses of a lattice under ``weights``, as an n-best list.

    Raises NoPathError when no path has a finite total, and as ``k_best`` does.
    """
    hyps = k_best(lattice, nbest, weights)
    if not hyps:
        raise NoPathError(f"lattice {lattice.utt} has no path with a finite total")
    return NBest(lattice.utt, hyps, lattice.audio_s)
