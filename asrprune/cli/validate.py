"""``asrprune validate``: read a whole file and say what it holds."""

from __future__ import annotations

import argparse
import json
from collections import Counter

from asrprune.cli.format_flags import FormatFlags, format_options
from asrprune.cli.modes import Mode
from asrprune.cli.values import output_file
from asrprune.core.lattice.lattice import Lattice
from asrprune.core.progress import tracked
from asrprune.errors import InputError
from asrprune.files import write_text
from asrprune.firstpass.formats.table import FORMATS, read_items

EXAMPLE = """\
example:
  asrprune validate --format jsonl nbest.jsonl.gz
"""


FLAGS = FormatFlags()
MODES = (
    Mode(("format", "input", "out")),
    *FLAGS.modes(lambda args: FORMATS[args.format].read_options, "has no use for format {format}"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``validate``."""
    parser.add_argument("--format", required=True, choices=list(FORMATS), help="format of IN")
    parser.add_argument("input", metavar="IN", help="file or folder to check")
    FLAGS.add_to(parser)
    parser.add_argument(
        "--out", type=output_file, default="-", metavar="FILE", help="where the counts go (JSON)"
    )


def run(args: argparse.Namespace) -> None:
    """Read everything, print the counts; raises InputError at the first flaw."""
    counts: Counter[str] = Counter()
    seen: set[str] = set()
    items = read_items(args.format, args.input, format_options(args))
    for item in tracked(items, "read"):
        if item.utt in seen:
            raise InputError(args.input, None, f"utterance {item.utt} again", "each once")
        seen.add(item.utt)
        counts["utterances"] += 1
        if isinstance(item, Lattice):
            counts["states"] += item.n_states
            counts["arcs"] += item.n_arcs
            counts["without_lm_score"] += item.n_arcs if item.lm is None else 0
        else:
            counts["hypotheses"] += len(item.hyps)
            counts["empty_hypotheses"] += sum(not hyp.text for hyp in item.hyps)
            counts["without_acoustic_score"] += sum(hyp.acoustic is None for hyp in item.hyps)
            counts["without_lm_score"] += sum(hyp.lm is None for hyp in item.hyps)
            counts["with_reference"] += item.ref is not None
    if not seen:
        raise InputError(args.input, None, "no utterance", "at least one")
    with write_text(args.out) as stream:
        json.dump({"format": args.format, **counts}, stream, indent=2)
        stream.write("\n")
