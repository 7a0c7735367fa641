"""The folder ``OUT.decoding`` beside a first pass's ``OUT``: what a killed run goes on from.

``OUT`` itself appears only when all is decoded, whole, so its presence means that it is done. The
folder holds ``identity.json`` (what makes the run what it is), ``done.txt`` (a line for every
utterance that is decoded), ``temporary/`` and ``result/``, which becomes ``OUT``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

from asrprune.core.checksums import write_sealed
from asrprune.core.config import from_values
from asrprune.core.resume import (
    DAMAGE,
    check_same_run,
    difference,
    read_identity,
    warn_of_damage,
)
from asrprune.errors import InputError
from asrprune.files import PathLike, read_json, sha256
from asrprune.firstpass.formats.jsonl import from_line

NBEST_FILE, LATTICE_FOLDER, HYP_FILE, SUMMARY_FILE = (
    "nbest.jsonl.gz",
    "lattices",
    "hyp",
    "first_pass.json",
)
IDENTITY, DONE, TEMPORARY, RESULT = "identity.json", "done.txt", "temporary", "result"
OF_BEFORE = ".unfinished"
"""Where earlier versions kept this, in ``OUT`` itself."""


@dataclass(frozen=True)
class Done:
    """The record of one decoded utterance: the line of its n-best list, the decoder's own words,
    wall times, and the SHA-256 of its lattice's file ("" without one)."""

    line: str
    decoder_text: str
    decode_s: float
    search_s: float
    lattice_sha256: str


class DecodingFolder:
    """``OUT.decoding`` of one run. ``identity`` (plain JSON) tells one run from another."""

    def __init__(self, out: PathLike, identity: Mapping[str, Any]) -> None:
        self.out = Path(out)
        if self.out.is_symlink() or self.out.name in ("", ".."):
            self.out = Path(os.path.realpath(out))  # the link stays, and its folder is made
        self.path = self.out.with_name(self.out.name + ".decoding")
        self.identity = identity

    @property
    def result(self) -> Path:
        """What becomes ``OUT``."""
        return self.path / RESULT

    @property
    def lattices(self) -> Path:
        """Where lattices are written."""
        return self.result / LATTICE_FOLDER

    @property
    def temporary(self) -> Path:
        """Where the decoder may leave files for a moment."""
        return self.path / TEMPORARY

    @property
    def done(self) -> Path:
        """The file of records."""
        return self.path / DONE

    def finished(self) -> Optional[dict[str, Any]]:
        """The summary of this very run, None if it has not come to its end.

        Raises AnotherRunError when ``OUT`` is of another run, InputError when it holds something
        else: it is never replaced.
        """
        if (self.out / OF_BEFORE / IDENTITY).is_file():
            found = "a first pass that an earlier version of asrprune left unfinished"
            expected = f"its folder removed (this version keeps such runs in {self.path.name})"
            raise InputError(self.out / OF_BEFORE, None, found, expected)
        if not (self.out / SUMMARY_FILE).is_file():
            if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
                expected = "a new or empty folder, or a run of `first-pass`"
                raise InputError(self.out, None, "files of no run", expected)
            return None
        summary = read_json(self.out / SUMMARY_FILE)
        there = summary.get("identity") if isinstance(summary, dict) else None
        check_same_run(self.out, there, self.identity)
        self._remove()  # if it was killed while it did so
        return dict(summary)

    def resume(self) -> dict[str, Done]:
        """The utterances that an interrupted run with this identity has decoded.

        Raises AnotherRunError when the folder is of another run, InputError when it is of none.
        """
        stated = read_identity(self.path / IDENTITY)
        if stated is not None:
            check_same_run(self.path, stated, self.identity)
        elif self.path.exists():
            if not self._is_nothing() and not (self.path / IDENTITY).is_file():
                raise InputError(self.path, None, "files of no run", "a new --out")
            _remove_others(self.path, {IDENTITY})  # which stays damaged until all is gone
            shutil.rmtree(self.path)
        if stated is None:
            write_sealed(self.path / IDENTITY, dict(self.identity))
        shutil.rmtree(self.temporary, ignore_errors=True)
        for folder in (self.lattices, self.temporary):
            folder.mkdir(parents=True, exist_ok=True)
        return self._read_done()

    def finish(self, utterances: Iterable[str]) -> None:
        """Put ``OUT`` into its place, with the lattices of ``utterances`` and no others, and remove
        what only a resume needs."""
        _remove_others(self.lattices, {lattice_name(utt) for utt in utterances})
        _remove_others(self.result, {NBEST_FILE, LATTICE_FOLDER, HYP_FILE, SUMMARY_FILE})
        os.replace(self.result, self.out)
        self._remove()

    def _remove(self) -> None:
        """Remove the folder if it is this run's. Its identity goes last: without it, what is left
        would be nobody's."""
        if not self.path.is_dir():
            return
        stated = read_identity(self.path / IDENTITY)
        if stated is not None and not difference(stated, self.identity):
            _remove_others(self.path, {IDENTITY})
            shutil.rmtree(self.path)
        elif self._is_nothing():
            shutil.rmtree(self.path)

    def _is_nothing(self) -> bool:
        """Whether the folder is that of a run that was killed as it made or removed it."""
        return self.path.is_dir() and all(one.name.startswith(".") for one in self.path.iterdir())

    def _read_done(self) -> dict[str, Done]:
        """The records of utterances whose lattices are whole. The file afterwards ends with the
        last record that is."""
        done: dict[str, Done] = {}
        whole = 0
        if not self.done.is_file():
            return done
        with open(self.done, "rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break  # the line that was being written when the run was killed
                try:
                    utt, entry = from_record(line)
                except DAMAGE as problem:
                    warn_of_damage(self.done, problem)
                    break
                whole += len(line)
                lattice = self.lattices / lattice_name(utt)
                if entry.lattice_sha256 and not _is_whole(lattice, entry.lattice_sha256):
                    warn_of_damage(lattice, "not the bytes that were written")
                    continue
                done[utt] = entry
        os.truncate(self.done, whole)
        return done


def to_record(utt: str, done: Done) -> str:
    """A line of ``done.txt``, with a hash of what it says."""
    text = json.dumps({"utt": utt, **asdict(done)}, ensure_ascii=False)
    return f"{_hash(text)} {text}\n"


def from_record(line: bytes) -> tuple[str, Done]:
    """The utterance and its record. Raises ValueError for a line that is not as it was written, and
    for values of other types, InputError for a list that is none."""
    stated, _, text = line.decode("utf-8").rstrip("\n").partition(" ")
    if stated != _hash(text):
        raise ValueError(f"{text[:40]!r}: not the bytes that were written")
    entry = dict(json.loads(text))
    utt, done = entry.pop("utt"), from_values(Done, entry)
    if from_line(DONE, 1, done.line).utt != utt:
        raise ValueError(f"{text[:40]!r}: a list of another utterance")
    return str(utt), done


def lattice_name(utt: str) -> str:
    """The file of an utterance's lattice."""
    return f"{utt}.slf.gz"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def _is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path) == digest


def _remove_others(folder: Path, names: set[str]) -> None:
    for entry in folder.iterdir():
        if entry.name in names:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
