"""``asrprune perplexity``: perplexity of a text per token and per word."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from asrprune.cli.modes import Mode
from asrprune.cli.values import device, output_file
from asrprune.text.normalise import NORMALISERS

EXAMPLE = """example:
  asrprune perplexity --lm exp/lm --text valid.txt --json exp/lm.ppl.json"""


def _is_checkpoint(args: argparse.Namespace) -> bool:
    from asrprune.lm.open import is_ngram

    return not is_ngram(args.lm)


CHECKPOINT = Mode(("device",), _is_checkpoint, "has no use for an n-gram LM")
MODES = (Mode(("lm", "text", "normalise", "json")), CHECKPOINT)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--lm", required=True, metavar="PATH", help="checkpoint folder, or ARPA or KenLM file"
    )
    parser.add_argument(
        "--text",
        required=True,
        metavar="FILE",
        help="a sentence a line, empty lines are left out; .gz, .xz and - are accepted",
    )
    parser.add_argument(
        "--normalise",
        choices=NORMALISERS,
        default="none",
        help="what is done to every line; must match the LM's training text",
    )
    parser.add_argument(
        "--device", type=device, default="cpu", help="of a checkpoint: cpu, cuda, cuda:N or auto"
    )
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="also write the numbers (- is stdout)"
    )


def run(args: argparse.Namespace) -> None:
    """Print one line, and write the JSON file if asked."""
    from asrprune.errors import InputError
    from asrprune.files import write_json
    from asrprune.lm.device import resolve_device
    from asrprune.lm.model.checkpoint import load_checkpoint
    from asrprune.lm.ngram import NgramLM
    from asrprune.lm.perplexity import ngram_perplexity, transformer_perplexity
    from asrprune.provenance import provenance

    lines = _normalised(args.text, args.normalise)
    if CHECKPOINT.holds(args):
        checkpoint = load_checkpoint(args.lm, str(resolve_device(args.device)))
        result = transformer_perplexity(checkpoint.model, checkpoint.tokenizer(), lines, args.text)
    else:
        result = ngram_perplexity(NgramLM(args.lm), lines)
    if result.total.sentences == 0:
        raise InputError(args.text, None, "no sentence", "text, a sentence a line")
    # with the JSON on stdout, the line makes room for it
    print(result.summary(), file=sys.stderr if args.json == "-" else sys.stdout)
    if args.json:
        write_json(args.json, {**result.to_json(), "provenance": provenance(args.command_line)})


def _normalised(path: str, name: str) -> Iterator[tuple[int, str]]:
    from asrprune.files import read_lines

    for number, line in read_lines(path):
        yield number, NORMALISERS[name](line)
