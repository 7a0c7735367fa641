"""``asrprune trim``: an LM without the pieces that a text never uses."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Iterator, Sequence

from asrprune.cli.modes import Mode
from asrprune.cli.overwriting import add_force, keep_existing
from asrprune.cli.text_flags import special_word
from asrprune.cli.values import output_folder, whole
from asrprune.text.normalise import NORMALISERS

EXAMPLE = "example: asrprune trim --lm exp/smollm2 --text train.txt.gz --out exp/smollm2-trimmed"

MODES = (Mode(("lm", "text", "min_count", "out", "force", "normalise", "language", "special")),)

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--lm", required=True, metavar="DIR", help="checkpoint of an imported LM, pruned or not"
    )
    parser.add_argument(
        "--text",
        required=True,
        nargs="+",
        metavar="FILE",
        help="text with all words that matter (.gz, .xz and - are accepted): their pieces, single "
        "letters and bytes stay, so that any other word is spelled in smaller pieces",
    )
    parser.add_argument(
        "--min-count",
        type=whole(1),
        default=1,
        metavar="N",
        help="words that come fewer times do not matter (default: 1)",
    )
    parser.add_argument(
        "--normalise",
        choices=NORMALISERS,
        help="put words into this form (default: the form that the LM states)",
    )
    parser.add_argument("--language", metavar="CODE", help="as lmscore --language")
    parser.add_argument(
        "--special",
        nargs="+",
        action="extend",
        type=special_word,
        default=[],
        metavar="WORD=WHAT",
        help="as lmscore --special",
    )
    parser.add_argument(
        "--out", required=True, type=output_folder, metavar="DIR", help="checkpoint to write"
    )
    add_force(parser)


def run(args: argparse.Namespace) -> None:
    """Trim."""
    from asrprune.cli.text_flags import text_options
    from asrprune.errors import InputError
    from asrprune.exchange.trimming import trim_vocabulary
    from asrprune.lm.model.checkpoint import load_checkpoint
    from asrprune.provenance import provenance

    keep_existing(args.out, args.force)
    words = {word for word, count in Counter(_words(args.text)).items() if count >= args.min_count}
    if not words:
        often = f" that comes {args.min_count} times" if args.min_count > 1 else ""
        raise InputError(args.text[0], None, f"no word{often}", "text")
    checkpoint = load_checkpoint(args.lm)
    made = trim_vocabulary(
        checkpoint, words, args.out, text_options(args), provenance(args.command_line)
    )
    log.info("%s: %d of %d pieces, for %d words", args.out, made.pieces, made.of, made.words)


def _words(paths: Sequence[str]) -> Iterator[str]:
    from asrprune.core.progress import tracked
    from asrprune.files import read_lines

    for path in paths:
        for _, line in tracked(read_lines(path), "read", "lines"):
            yield from line.split()
