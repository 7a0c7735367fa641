"""``asrprune convert``: n-best lists and lattices from one format to another."""

from __future__ import annotations

import argparse
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Optional

from asrprune.cli.first_lm import FirstLM
from asrprune.cli.format_flags import FormatFlags, add_on_bad_argument, format_options
from asrprune.cli.modes import Mode
from asrprune.cli.overwriting import add_force, keep_existing, replacing
from asrprune.cli.sharding import add_shard_argument
from asrprune.cli.values import number, output, whole
from asrprune.core.hypothesis import NBest
from asrprune.core.lattice.lattice import Lattice, NoLmScoresError, NoPathError
from asrprune.core.lattice.union import union_of_nbest
from asrprune.core.progress import tracked
from asrprune.core.spool import SpooledDict
from asrprune.core.tables import lookup
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.firstpass.formats.table import FORMATS, Format, Item, lattice_nbest, read_items
from asrprune.firstpass.on_bad import NothingFoundError, OnBad, empty_list
from asrprune.firstpass.references import REFERENCES, Reference, read_references, with_reference

EXAMPLE = """\
example:
  asrprune convert --from slf --to jsonl --nbest 100 lattices/ --out nbest.jsonl.gz
"""
_log = logging.getLogger(__name__)


def _kinds(args: argparse.Namespace) -> tuple[str, str]:
    return FORMATS[args.source].kind, FORMATS[args.target].kind


FLAGS = FormatFlags(writes=True)
MODES = (
    Mode(("source", "target", "input", "out", "force", "on_bad", "shard")),
    *FLAGS.modes(
        lambda args: (*FORMATS[args.source].read_options, *FORMATS[args.target].write_options),
        "has no use from {source} to {target}",
    ),
    Mode(
        ("references", "references_format"),
        lambda args: _kinds(args)[1] == "nbest",
        "has no use for {target}: lattices hold no references",
    ),
    Mode(
        ("nbest", "acoustic_scale", "lm_scale", "word_bonus"),
        lambda args: _kinds(args) == ("lattice", "nbest"),
        "has a use only from a lattice to an n-best format",
    ),
    Mode(
        ("first_lm",),
        lambda args: _kinds(args)[0] == "lattice",
        "has no use for {source}: it has no lattices",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``convert``."""
    writable = [name for name, entry in FORMATS.items() if entry.write is not None]
    parser.add_argument("--from", dest="source", required=True, choices=list(FORMATS), help="of IN")
    parser.add_argument("--to", dest="target", required=True, choices=writable, help="of OUT")
    parser.add_argument("input", metavar="IN", help="file or folder to read")
    parser.add_argument(
        "--out", required=True, type=output, metavar="OUT", help="file or folder to write"
    )
    add_force(parser)
    FLAGS.add_to(parser)
    add_on_bad_argument(parser)
    add_shard_argument(parser)
    parser.add_argument(
        "--first-lm",
        metavar="FILE",
        help="n-gram whose scores lattices without LM scores get (pocketsphinx, HVite, k2)",
    )
    parser.add_argument(
        "--references", metavar="PATH", help="references and durations to add to n-best lists"
    )
    parser.add_argument(
        "--references-format", choices=list(REFERENCES), help="of --references, which needs it"
    )
    parser.add_argument(
        "--nbest", type=whole(1), default=100, help="hypotheses of each lattice (lattice to n-best)"
    )
    for flag, what in (
        ("--acoustic-scale", "acoustic weight"),
        ("--lm-scale", "weight of the first pass's LM"),
        ("--word-bonus", "bonus for each word, natural log"),
    ):
        parser.add_argument(
            flag,
            type=number(),
            default=argparse.SUPPRESS,
            help=f"{what} to rank paths of lattices by (default: the lattice's own, else "
            f"{getattr(ScoreWeights(), _FIELDS[flag[2:].replace('-', '_')])})",
        )


_FIELDS = {"acoustic_scale": "acoustic", "lm_scale": "first_lm", "word_bonus": "word_bonus"}


def run(args: argparse.Namespace) -> None:
    """Convert."""
    source, target = lookup(FORMATS, args.source, "format"), lookup(FORMATS, args.target, "format")
    stated = {field: getattr(args, flag) for flag, field in _FIELDS.items() if hasattr(args, flag)}
    if os.path.isdir(args.out) and not target.is_folder:
        raise InputError(args.out, None, "a folder", f"a file: {target.name} is written as one")
    keep_existing(args.out, args.force)
    options = format_options(args)
    reading = {name: value for name, value in options.items() if name in source.read_options}
    writing = {name: value for name, value in options.items() if name in target.write_options}
    references = _references(args)
    first_lm = FirstLM(args.first_lm, args.input) if args.first_lm else None
    bad = OnBad(args.on_bad)
    count = acoustic_only = 0
    left_out: Counter[str] = Counter()

    def items() -> Iterator[Item]:
        nonlocal count, acoustic_only
        read = read_items(source.name, args.input, reading, bad)
        for item in tracked(args.part.take(read), "converted"):
            if isinstance(item, Lattice) and first_lm is not None and item.utt not in bad.met:
                item = first_lm(item)
            if isinstance(item, Lattice) and target.kind == "nbest":
                acoustic_only += item.lm is None
                weights = replace(item.weights or ScoreWeights(), **stated)
                try:
                    item = _best_of(item, args.nbest, weights, args.input)
                except NothingFoundError as problem:
                    instead = list(bad(problem))
                    if not instead:
                        continue
                    item = instead[0]
            count += 1
            if target.finite and isinstance(item, NBest):
                _check_finite(item, args.input, target.name)
            if isinstance(item, NBest) and target.kind == "lattice":
                item = _union(item, args.input)
            if references is not None and isinstance(item, NBest):
                item = with_reference(item, references, args.references)
            left_out.update(_not_held(item, target))
            yield item

    assert target.write is not None  # choices of --to
    with replacing(args.out) as out:
        try:
            target.write(out, items(), **writing)
        except ValueError as problem:
            if count == 0:  # an option, seen before anything was read
                raise
            raise InputError(args.input, None, str(problem), f"what {target.name} holds") from None
    bad.warn(args.input)
    if first_lm is not None:
        first_lm.log()
    if acoustic_only:
        text = "%s: %d lists are ranked and scored by the acoustic model alone: no LM scores in %s"
        _log.warning(text, args.out, acoustic_only, args.input)
    for name, utterances in sorted(left_out.items()):
        _log.warning("%s cannot hold %s: left out of %d utterances", target.name, name, utterances)
    _log.info("%d utterances to %s", count, args.out)


def _best_of(lattice: Lattice, nbest: int, weights: ScoreWeights, path: str) -> NBest:
    """The list of a lattice. Raises InputError naming the utterance where it has no LM scores."""
    try:
        return lattice_nbest(lattice, nbest, weights)
    except NoPathError:
        found = "no path with a finite total"
        raise NothingFoundError(path, None, empty_list(lattice.utt), found) from None
    except NoLmScoresError:
        found = f"utterance {lattice.utt}: no LM scores of the first pass"
        expected = (
            "some, or --lm-scale 0 (the acoustic score alone), or --first-lm FILE (an n-gram)"
        )
        raise InputError(path, None, found, expected) from None
    except ValueError as problem:
        raise InputError(path, None, str(problem), "lattices with a best path") from None


def _check_finite(nbest: NBest, path: str, target: str) -> None:
    for rank, hyp in enumerate(nbest.hyps, start=1):
        for name, score in (("acoustic", hyp.acoustic), ("lm", hyp.lm)):
            if score is not None and not math.isfinite(score):
                found = f"utterance {nbest.utt}: {name} score {score} of hypothesis {rank}"
                raise InputError(path, None, found, f"finite scores, which {target} can hold")


def _union(nbest: NBest, path: str) -> Lattice:
    try:
        return union_of_nbest(nbest)
    except ValueError as problem:
        raise InputError(path, None, str(problem), "lists that make a lattice") from None


def _not_held(item: Item, target: Format) -> set[str]:
    """What the item has and the target's files cannot hold; scores are the writer's to judge."""
    names = ("ref", "audio_s", "weights", "times")
    has = {name for name in names if getattr(item, name, None) is not None}
    if isinstance(item, NBest) and any(hyp.tokens is not None for hyp in item.hyps):
        has.add("tokens")
    return has - set(target.holds)


def _references(args: argparse.Namespace) -> Optional[SpooledDict[Reference]]:
    if (args.references is None) != (args.references_format is None):
        raise ValueError("--references and --references-format go together")
    if args.references is None:
        return None
    found = read_references(args.references_format, args.references)
    return SpooledDict((reference.utt, reference) for reference in found)
