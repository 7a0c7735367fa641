"""The outputs of shards of ``lmscore`` and ``rescore`` as one: scores, words, figures."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from asrprune.core.config import shown
from asrprune.core.record import Record, a_list_of, a_string, an_amount, an_object, read_record
from asrprune.core.shards import ShardRecord, in_order
from asrprune.core.spool import SortedLines
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines, write_json, write_text
from asrprune.rescore.scores_file import ScoresReader, write_scores
from asrprune.rescore.weights_file import utterances_hash

TIMES = "wall_s", "load_wall_s", "search_wall_s", "audio_s"
COUNTS = "tokens", "unique_tokens", "over_long", "utterances", "changed", "unscored", "empty_lists"
"""Entries of figures that are added up."""


def merge_scores(
    records: Sequence[ShardRecord], paths: Sequence[str], out: PathLike, command: Sequence[str]
) -> None:
    """Write the scores of the shards' ``paths`` to ``out``, as ``command`` would have.

    Where machines took different engines, those of the accuracy class float32 are named together;
    raises InputError for others.
    """
    readers = [ScoresReader(path) for path in paths]
    header = dict(readers[0].header)
    engines = list(dict.fromkeys(one.header.get("engine") for one in readers))
    if len(engines) > 1:
        header["engine"] = _together(readers)
    header.pop("shard", None)
    origins = [one.header.get("provenance") for one in readers]
    header["provenance"] = merged_provenance(origins, paths, command)
    write_scores(out, header, in_order(records, [one.utterances() for one in readers]))


def _together(readers: Sequence[ScoresReader]) -> str:
    from asrprune.lm.engines.table import ENGINES  # torch, which takes a second

    names = {one.path: str(one.header.get("engine")) for one in readers}
    for path, name in names.items():
        if name not in ENGINES or ENGINES[name].accuracy != "float32":
            other = next(each for each in names if names[each] != name)
            expected = f"engine {shown(names[other])}, as in {other}"
            raise InputError(path, 1, f"scores of engine {shown(name)}", expected)
    return " + ".join(sorted(set(names.values())))


def merge_words(records: Sequence[ShardRecord], paths: Sequence[str], out: PathLike) -> str:
    """Write the Kaldi texts of the shards' ``paths`` to ``out``; returns the hash of all ids."""
    utts = SortedLines()
    texts = [(line for _, line in read_lines(path)) for path in paths]
    with write_text(out) as stream:
        for line in in_order(records, texts, _first_word):
            utts.add(_first_word(line))
            stream.write(line + "\n")
    return utterances_hash(utts)


def _first_word(line: str) -> str:
    return line.partition(" ")[0]


def merged_provenance(
    origins: Sequence[Any], paths: Sequence[str], command: Sequence[str]
) -> dict[str, Any]:
    """That of the first shard, with the ``command`` of no shard and the time of the last.

    Raises InputError where one has none.
    """
    times = [Record(path, {"provenance": one}) for path, one in zip(paths, origins)]
    latest = max(one.part("provenance").get("time_utc", a_string) for one in times)
    return {**origins[0], "command": shlex.join(command), "time_utc": latest}


def merge_timings(paths: Sequence[str], out: PathLike) -> None:
    """Write the figures of ``lmscore``: times and counts added up, of the memory the most."""
    records = [read_record(path) for path in paths]
    figures = _added(records)
    wall_s, audio_s = (figures.get(key) for key in ("wall_s", "audio_s"))
    figures["rtf"] = wall_s / audio_s if wall_s and audio_s else None
    figures["peak_rss_bytes"] = max(int(one.get("peak_rss_bytes", an_amount)) for one in records)
    write_json(out, figures)


def merge_figures(
    paths: Sequence[str], out: PathLike, command: Sequence[str], more: Mapping[str, Any]
) -> None:
    """Write the figures of ``rescore``: times and counts added up. ``more`` replaces others."""
    records = [read_record(path) for path in paths]
    figures = _added(records)
    for name in ("lm_tokens", "early", "cascade"):
        if name in figures:
            figures[name] = _added([one.part(name) for one in records], every=True)
    if "early" in figures:
        nodes, computed = (figures["early"].get(key) or 0 for key in ("nodes", "computed_nodes"))
        figures["early"]["saved"] = 1.0 - computed / nodes if nodes else 0.0
    if "cascade" in figures:
        figures["cascade"]["margin"] = records[0].part("cascade").get("margin", an_amount)
    met = {utt for one in records for utt in one.find("on_bad", a_list_of(a_string)) or ()}
    figures |= {"on_bad": sorted(met), **more}
    origins = [one.get("provenance", an_object) for one in records]
    figures["provenance"] = merged_provenance(origins, paths, command)
    write_json(out, figures)


def _added(records: Sequence[Record], every: bool = False) -> dict[str, Any]:
    """The values of the first record; sums of TIMES and COUNTS, or of ``every`` entry."""
    found = dict(records[0].values)
    for key in found:
        if every or key in (*TIMES, *COUNTS):
            found[key] = _sum(records, key)
    return found


def _sum(records: Sequence[Record], key: str) -> Optional[float]:
    """None where one is unknown; whole numbers stay whole."""
    if any(one.find(key, an_amount) is None for one in records):
        return None
    total: float = sum(one.values[key] for one in records)
    return total
