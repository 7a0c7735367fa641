"""The outputs of shards as one: n-best lists and lattices of any format, first passes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from asrprune.core.record import Record, a_list_of, a_string, an_amount, an_object, read_record
from asrprune.core.shards import ShardRecord, in_order
from asrprune.errors import InputError
from asrprune.files import PathLike, locked, write_folder, write_json, write_text
from asrprune.firstpass.decoders.state import (
    HYP_FILE,
    LATTICE_FOLDER,
    NBEST_FILE,
    SUMMARY_FILE,
    DecodingFolder,
)
from asrprune.firstpass.formats.jsonl import nbest_writer, read_distinct_nbest, read_provenance
from asrprune.firstpass.formats.table import FORMATS, Item, read_items

_DIFFERENCES = ("no_hypothesis", "decoder_1best_not_first", "decoder_1best_not_listed")


def merge_items(
    records: Sequence[ShardRecord],
    paths: Sequence[str],
    out: PathLike,
    name: str,
    options: Mapping[str, Any],
    provenance: Optional[Mapping[str, Any]] = None,
) -> None:
    """Write the lists or lattices of the shards' ``paths``, all in the format ``name``, to ``out``.

    ``options`` are those of reading and writing the format (OPTIONS), ``provenance`` that of
    canonical lists. Raises InputError as their reader does and ``in_order``.
    """
    entry = FORMATS[name]
    if entry.file_each and all(map(os.path.isdir, paths)):
        with write_folder(out) as folder:
            copy_files(paths, folder)
        return
    reading = {key: value for key, value in options.items() if key in entry.read_options}
    writing = {key: value for key, value in options.items() if key in entry.write_options}
    if provenance is not None:
        writing["provenance"] = provenance

    def read(path: str) -> Iterator[Item]:
        return read_distinct_nbest(path) if name == "jsonl" else read_items(name, path, reading)

    outputs = (read(path) if one.utterances else () for one, path in zip(records, paths))
    assert entry.write is not None  # a shard was written
    entry.write(out, in_order(records, outputs), **writing)


def copy_files(folders: Iterable[PathLike], target: Path) -> None:
    """Copy the files of ``folders`` into the folder ``target``.

    Raises InputError for a name that two of them have.
    """
    for folder in folders:
        for file in sorted(Path(folder).iterdir()):
            if file.name.startswith("."):
                continue
            if (target / file.name).exists():
                raise InputError(file, None, "a file that another shard has too", "one of each")
            shutil.copyfile(file, target / file.name)


def merge_first_passes(
    records: Sequence[ShardRecord], out: PathLike, command_line: Sequence[str]
) -> dict[str, Any]:
    """Put the folders of ``first-pass --shard`` together as the folder ``out``; returns what its
    ``first_pass.json`` holds, where times are those of all shards, added up.

    A folder ``out`` that holds this very result stays. Raises InputError for damaged files, and
    AnotherRunError when ``out`` is of another run.
    """
    folders = [Path(one.out) for one in records]
    summaries = [read_record(folder / SUMMARY_FILE) for folder in folders]
    identity = dict(summaries[0].get("identity", an_object))
    identity.pop("shard", None)
    with locked(out):
        finished = DecodingFolder(out, identity).finished()
        if finished is not None:
            return finished
        with write_folder(out) as folder:
            (folder / LATTICE_FOLDER).mkdir()
            copy_files([one / LATTICE_FOLDER for one in folders], folder / LATTICE_FOLDER)
            summary = _write_lists(records, folders, summaries, folder)
            summary |= {"identity": identity, "command_line": list(command_line)}
            write_json(folder / SUMMARY_FILE, summary)
    return summary


def _write_lists(
    records: Sequence[ShardRecord],
    folders: Sequence[Path],
    summaries: Sequence[Record],
    folder: Path,
) -> dict[str, Any]:
    """Write the lists and the words; what the summary says of them."""
    named: dict[str, set[str]] = {key: set() for key in _DIFFERENCES}
    for one in summaries:
        for key, utts in named.items():
            utts.update(one.get(key, a_list_of(a_string)))
    found: dict[str, list[str]] = {key: [] for key in _DIFFERENCES}
    count = hypotheses = 0
    audio_s = 0.0
    lists = in_order(records, (read_distinct_nbest(one / NBEST_FILE) for one in folders))
    with (
        nbest_writer(folder / NBEST_FILE, read_provenance(folders[0] / NBEST_FILE)) as put,
        write_text(folder / HYP_FILE) as stream,
    ):
        for nbest in lists:
            put(nbest)
            stream.write(f"{nbest.utt} {nbest.hyps[0].text}".rstrip() + "\n")
            count, hypotheses = count + 1, hypotheses + len(nbest.hyps)
            audio_s += nbest.audio_s or 0.0
            for key, utts in named.items():
                if nbest.utt in utts:
                    found[key].append(nbest.utt)
    decode_s, search_s = (
        sum(one.get(key, an_amount) for one in summaries)
        for key in ("decode_wall_s", "search_wall_s")
    )
    runs = [one.part("run") for one in summaries]
    return {
        **summaries[0].values,
        "utterances": count,
        "hypotheses": hypotheses,
        "audio_s": audio_s,
        "decode_wall_s": decode_s,
        "search_wall_s": search_s,
        "rtf_per_process": (decode_s + search_s) / audio_s if audio_s else None,
        **found,
        "run": {
            "nj": sum(int(one.get("nj", an_amount)) for one in runs),
            "wall_s": sum(one.get("wall_s", an_amount) for one in runs),
            "utterances": sum(int(one.get("utterances", an_amount)) for one in runs),
        },
    }
