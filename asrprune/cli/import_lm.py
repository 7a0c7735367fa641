"""``asrprune import``: an LM of another toolkit as a checkpoint."""

from __future__ import annotations

import argparse
import logging

from asrprune.cli.modes import Mode
from asrprune.cli.overwriting import add_force, keep_existing
from asrprune.cli.values import output_folder, whole
from asrprune.text.form import CASES
from asrprune.text.normalise import NORMALISERS
from asrprune.text.sentence import SENTENCE_FORMS, check_prompt

EXAMPLE = """example:
  asrprune import --from hugging-face SmolLM2-135M --out exp/smollm2 --case sentence \\
    --sentence-form stop"""

MODES = (
    Mode(("partner", "path", "out", "force", "begin", "end", "prompt", "sentence_form", "case")),
    Mode(("normalise", "language", "positions", "dtype")),
)

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    from asrprune.exchange.importing import DTYPES, MOST_POSITIONS, PARTNERS, ImportOptions

    default = ImportOptions()
    parser.add_argument(
        "--from",
        dest="partner",
        required=True,
        choices=PARTNERS,
        help="; ".join(f"{name}: {partner.description}" for name, partner in PARTNERS.items()),
    )
    parser.add_argument("path", metavar="PATH", help="the LM's folder or file")
    parser.add_argument(
        "--out", required=True, type=output_folder, metavar="DIR", help="checkpoint to write"
    )
    add_force(parser)
    group = parser.add_argument_group("how the LM scores a sentence (part of the checkpoint)")
    group.add_argument(
        "--begin", metavar="TOKEN", help="token before a sentence (default: what the files state)"
    )
    group.add_argument("--end", metavar="TOKEN", help="token behind a sentence, likewise")
    group.add_argument(
        "--prompt",
        type=prompt,
        default=default.prompt,
        metavar="TEXT",
        help="text between the begin token and the sentence; it is never scored",
    )
    group.add_argument(
        "--sentence-form",
        choices=SENTENCE_FORMS,
        default=default.sentence_form,
        help="what ends a sentence, scored with it: the end token, a full stop before it, or a "
        "newline in its place",
    )
    group.add_argument(
        "--case",
        choices=CASES,
        default=default.form.case,
        help="letters that the LM sees: as they come, of one case, or as in prose (small, the "
        "first one and the word I capital)",
    )
    group.add_argument(
        "--normalise",
        choices=NORMALISERS,
        default=default.form.normaliser,
        help="what is done to a word before that",
    )
    group.add_argument("--language", metavar="CODE", help="of the text, as tokenize --language")
    group = parser.add_argument_group("how it is stored")
    group.add_argument(
        "--positions",
        type=whole(2),
        help=f"most tokens of a sentence (default: the LM's own, up to {MOST_POSITIONS})",
    )
    group.add_argument(
        "--dtype",
        choices=DTYPES,
        default=default.dtype,
        help="bfloat16 halves the files and is not exact",
    )


def prompt(text: str) -> str:
    """A text that does not end with a space."""
    try:
        return check_prompt(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def run(args: argparse.Namespace) -> None:
    """Write the checkpoint."""
    from asrprune.core.record import a_count
    from asrprune.exchange.importing import ImportOptions, import_lm
    from asrprune.lm.model.checkpoint import read_config
    from asrprune.provenance import provenance
    from asrprune.text.form import TextForm

    keep_existing(args.out, args.force)
    options = ImportOptions(
        args.begin,
        args.end,
        args.prompt,
        args.sentence_form,
        TextForm(args.normalise, args.case, args.language),
        args.positions,
        args.dtype,
    )
    import_lm(args.partner, args.path, args.out, options, provenance(args.command_line))
    count = read_config(args.out).get("parameters", a_count)
    log.info("%s: %d parameters; text form: %s", args.out, count, options.form.stated())
