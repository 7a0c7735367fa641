"""Folders of a decoder's output: finding their files in order, replacing them safely."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from asrprune.errors import InputError
from asrprune.files import PathLike, write_folder
from asrprune.firstpass.reading.utterance_ids import id_of_path

_TEMPORARY = r"\..+\.(tmp|old|lock)"


def numbered(folder: PathLike, pattern: str, what: str) -> list[Path]:
    """The entries of ``folder`` whose whole name matches ``pattern``, by the number in group 1.

    Raises InputError when there is none, when a number comes twice, and when ``num_jobs`` is in
    the folder and states another count.
    """
    found: dict[int, Path] = {}
    for entry in sorted(Path(folder).iterdir()):
        match = re.fullmatch(pattern, entry.name)
        if match is None:
            continue
        number = int(match.group(1))
        if number in found:
            text = f"{found[number].name} and {entry.name}"
            raise InputError(folder, None, text, "each number once")
        found[number] = entry
    if not found:
        raise InputError(folder, None, "no such file in this folder", what)
    jobs = Path(folder) / "num_jobs"
    if jobs.is_file():
        try:
            stated = jobs.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            stated = "bytes that are not UTF-8"
        if stated != str(len(found)):
            text = f"num_jobs says {stated[:40]!r} and there are {len(found)} files"
            raise InputError(folder, None, text, "a file of every job")
    return [found[number] for number in sorted(found)]


def member(folder: PathLike, *names: str) -> Optional[Path]:
    """The one file of ``folder`` among ``names`` and ``names`` + ``.gz``; None without any.

    Raises InputError when there are several.
    """
    found = [
        Path(folder) / (name + suffix)
        for name in names
        for suffix in ("", ".gz")
        if (Path(folder) / (name + suffix)).is_file()
    ]
    if len(found) > 1:
        text = " and ".join(path.name for path in found)
        raise InputError(folder, None, f"both {text}", "one of them")
    return found[0] if found else None


def utterance_files(
    path: PathLike, *suffixes: str, of_audio: bool = False
) -> Iterator[tuple[str, Path]]:
    """Yield (utterance id, file) for one file, or for those of a folder in order of their names.

    The id is the file's name without ``.gz`` and without one of ``suffixes``, which a file of a
    folder must have (an empty suffix takes every file whose name does not start with a dot), and
    with ``of_audio`` without the suffix of an audio file before it: ``u1.wav.json`` is of ``u1``.
    Raises InputError when the folder has no such file, for an id with white space or of length 0,
    and for an id that comes twice.
    """
    files = [Path(path)]
    if Path(path).is_dir():
        files = [
            entry
            for entry in sorted(Path(path).iterdir())
            if not entry.name.startswith(".")
            and entry.is_file()
            and entry.name.removesuffix(".gz").endswith(suffixes)
        ]
        if not files:
            shown = " or ".join(f"*{suffix}[.gz]" for suffix in suffixes)
            raise InputError(path, None, "no such file in this folder", shown)
    seen: dict[str, Path] = {}
    for file in files:
        utt = file.name.removesuffix(".gz")
        for suffix in sorted(suffixes, key=len, reverse=True):
            if suffix and utt.endswith(suffix):
                utt = utt.removesuffix(suffix)
                break
        if utt.split() != [utt]:
            raise InputError(file, None, f"utterance id {utt!r}", "an id without white space")
        utt = id_of_path(utt) if of_audio else utt
        if utt in seen:
            raise InputError(file, None, f"utterance {utt} again ({seen[utt].name})", "each once")
        seen[utt] = file
        yield utt, file


@contextlib.contextmanager
def output_folder(path: PathLike, *patterns: str) -> Iterator[Path]:
    """A folder that appears whole or not at all, in the place of an older output at most.

    Raises ValueError when ``path`` is a file, or a folder that holds an entry matching none of
    ``patterns`` (regular expressions for whole names): such a folder is not ours to replace. What
    a killed run left there under a temporary name is.
    """
    target = Path(path)
    if str(path) == "-" or (target.exists() and not target.is_dir()):
        raise ValueError(f"{target} is no folder; expected a new or empty folder")
    if target.is_dir():
        for entry in sorted(target.iterdir()):
            if not any(re.fullmatch(pattern, entry.name) for pattern in (*patterns, _TEMPORARY)):
                raise ValueError(f"{target} holds {entry.name}; expected a new or empty folder")
    with write_folder(target) as folder:
        yield folder
