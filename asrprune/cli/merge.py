"""``asrprune merge``: the outputs of a command's shards as those of the command."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from typing import Any, Optional

from asrprune.cli.modes import Mode
from asrprune.cli.overwriting import add_force, keep_existing, replacing
from asrprune.cli.values import output, output_file
from asrprune.core.record import Record, a_string, one_of
from asrprune.core.shards import END, ShardRecord, check_shards, read_shard, whole_command
from asrprune.core.units import RATES
from asrprune.errors import InputError
from asrprune.files import allow_open_files, content_hash, is_stream

EXAMPLE = """\
example:
  asrprune merge exp/scores.1.gz exp/scores.2.gz --out exp/scores.gz

SHARD are outputs of lmscore, rescore, convert or first-pass with --shard 1/N to N/N, in any order;
each has its record SHARD.shard beside it. Times in JSON are those of all shards, added up.
"""
MODES = (Mode(("shards", "out", "write_nbest", "write_lattice", "json", "force")),)

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``merge``."""
    parser.add_argument("shards", nargs="+", metavar="SHARD", help="the shards' --out")
    parser.add_argument("--out", required=True, type=output, metavar="OUT", help="as the shards'")
    parser.add_argument(
        "--write-nbest", type=output_file, metavar="FILE", help="the lists of rescore"
    )
    parser.add_argument(
        "--write-lattice", type=output, metavar="OUT", help="the lattices of rescore"
    )
    parser.add_argument(
        "--json",
        type=output_file,
        metavar="FILE",
        help="figures: of rescore's --json, or of lmscore's --timing (by default OUT.timing.json)",
    )
    add_force(parser)


def run(args: argparse.Namespace) -> None:
    """Check the records, then write what was asked for."""
    outs = [path for path in args.shards if not path.endswith(END)]  # which a glob may match
    if not outs:
        raise ValueError(f"SHARD are records (*{END}) only; expected the outputs beside them")
    allow_open_files(2 * len(outs))  # a record and an output of each
    records = check_shards([read_shard(path) for path in outs])
    verb = str(records[0].identity.get("verb"))
    if verb not in _MERGE:
        raise InputError(outs[0], None, f"a shard of {verb!r}", f"one of {', '.join(_MERGE)}")
    _MERGE[verb](_Shards(records, _asked(verb, args), args.force))
    log.info("%s: %d utterances of %d shards", args.out, records[0].total, len(records))


def _asked(verb: str, args: argparse.Namespace) -> dict[str, str]:
    """Option of the verb -> where its merged output is to stand."""
    figures = "--json"
    if verb == "lmscore":
        figures = "--timing"
        if args.json is None and not is_stream(args.out):
            args.json = f"{args.out}.timing.json"
    asked = {
        "--out": args.out,
        "--write-nbest": args.write_nbest,
        "--write-lattice": args.write_lattice,
        figures: args.json,
    }
    return {flag: path for flag, path in asked.items() if path is not None}


class _Shards:
    """The records, in order, and what is asked of their outputs."""

    def __init__(self, records: list[ShardRecord], asked: Mapping[str, str], force: bool) -> None:
        self.records = records
        self.identity = records[0].identity
        self.stated = Record(records[0].path, dict(records[0].identity))
        self.asked = asked
        for flag in asked:
            if flag not in records[0].outputs:
                raise ValueError(f"{flag} has no use here: the shards have none")
        self.command = whole_command(
            records[0], {flag: asked.get(flag) for flag in records[0].outputs}
        )
        self._force = force

    def paths(self, flag: str) -> list[str]:
        """The shards' outputs of ``flag``. Raises InputError for one that is not as it was."""
        found = []
        for one in self.records:
            path, digest = one.outputs[flag]
            path = one.out if flag == "--out" else path
            there = content_hash(path)
            if there != digest:
                what = "no such file" if there == "none" else "not the bytes that were written"
                raise InputError(path, None, what, f"the output of shard {one.shard}")
            found.append(path)
        return found

    def file(self, flag: str) -> str:
        """The file that the command reads as ``flag``."""
        return self.stated.part(flag).get("path", a_string)

    def merge_items(self, flag: str, form: Optional[str] = None) -> None:
        """Lists or lattices in the format ``form``, by default that of --to."""
        from asrprune.firstpass.formats.jsonl import read_provenance
        from asrprune.firstpass.formats.table import FORMATS
        from asrprune.firstpass.merge import merge_items

        form = form or self.stated.get("--to", one_of(*FORMATS))
        paths, out, origin = self.paths(flag), self.asked[flag], None
        origins = [read_provenance(path) for path in paths] if form == "jsonl" else [None]
        if origins[0] is not None:
            from asrprune.rescore.merge import merged_provenance

            origin = merged_provenance(origins, paths, self.command)
        options = {} if "--words" not in self.identity else {"words": self.file("--words")}
        keep_existing(out, self._force)
        with replacing(out) as place:
            merge_items(self.records, paths, place, form, options, origin)


def _merge_scores(shards: _Shards) -> None:
    from asrprune.rescore.merge import merge_scores, merge_timings

    paths, figures = shards.paths("--out"), shards.asked.get("--timing")
    timings = None if figures is None else shards.paths("--timing")
    merge_scores(shards.records, paths, shards.asked["--out"], shards.command)
    if figures is not None and timings is not None:
        merge_timings(timings, figures)


def _merge_first_passes(shards: _Shards) -> None:
    from asrprune.firstpass.merge import merge_first_passes

    shards.paths("--out")
    merge_first_passes(shards.records, shards.asked["--out"], shards.command)


def _merge_converted(shards: _Shards) -> None:
    shards.merge_items("--out")


def _merge_rescored(shards: _Shards) -> None:
    from asrprune.rescore.merge import merge_figures, merge_words
    from asrprune.rescore.weights_file import read_any_weights, tuned_on

    asked = shards.asked
    more: dict[str, Any] = {}
    texts = shards.paths("--out")
    figures = shards.paths("--json") if "--json" in asked else []
    if "--write-lattice" in asked:
        shards.merge_items("--write-lattice")
    if "--write-nbest" in asked:
        shards.merge_items("--write-nbest", "jsonl")
    utterances = merge_words(shards.records, texts, asked["--out"])
    if shards.identity.get("--lattice") is not None:  # a shard did not see the whole set
        weights = read_any_weights(shards.file("--weights"))
        more = {"utterances_hash": utterances}
        more["tuned_on_this_set"] = tuned_on(weights, more)
        if more["tuned_on_this_set"]:
            rate = RATES[weights.weights.unit]
            log.warning("the weights were tuned on this set: its %s is not a test result", rate)
    if figures:
        merge_figures(figures, asked["--json"], shards.command, more)


_MERGE = {
    "first-pass": _merge_first_passes,
    "convert": _merge_converted,
    "lmscore": _merge_scores,
    "rescore": _merge_rescored,
}
"""verb -> what puts its outputs together."""
