"""``asrprune perplexity``: perplexity of a text per token and per word."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Union

from asrprune.cli.engine_flags import add_over_long_argument, add_size_argument, warn_of_over_long
from asrprune.cli.modes import Mode
from asrprune.cli.text_flags import TEXT, add_text_arguments, text_options
from asrprune.cli.values import device, output_file

EXAMPLE = """example:
  asrprune perplexity --lm exp/lm --text valid.txt --json exp/lm.ppl.json"""


def _is_checkpoint(args: argparse.Namespace) -> bool:
    from asrprune.lm.open import is_ngram

    return not is_ngram(args.lm)


CHECKPOINT = Mode(("device", "size", "over_long"), _is_checkpoint, "has no use for an n-gram LM")
MODES = (Mode(("lm", "text", "json", *TEXT)), CHECKPOINT)


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
        "--device", type=device, default="cpu", help="of a checkpoint: cpu, cuda, cuda:N or auto"
    )
    add_size_argument(parser)
    add_over_long_argument(parser, "a sentence")
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="also write the numbers (- is stdout)"
    )
    add_text_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print one line, and write the JSON file if asked."""
    from asrprune.errors import InputError
    from asrprune.files import write_json
    from asrprune.lm.device import resolve_device
    from asrprune.lm.model.checkpoint import load_checkpoint
    from asrprune.lm.ngram import NgramLM
    from asrprune.lm.perplexity import ngram_perplexity, transformer_perplexity
    from asrprune.provenance import provenance
    from asrprune.text.coverage import check_coverage
    from asrprune.text.tokenizer import Tokenizer

    lm: Union[NgramLM, Tokenizer]
    words: Counter[str] = Counter()
    digest = hashlib.sha256()
    options = text_options(args)
    if CHECKPOINT.holds(args):
        place = str(resolve_device(args.device))
        checkpoint = load_checkpoint(args.lm, place, mapped=True, size=args.size)
        lm = checkpoint.tokenizer(options)
        lines = _lines(args.text, lm.line, words, digest)
        result = transformer_perplexity(
            checkpoint.model, lm, lines, args.text, over_long=args.over_long
        )
        warn_of_over_long(args, result.over_long, "sentences")
    else:
        lm = NgramLM(args.lm, text=options)
        result = ngram_perplexity(lm, _lines(args.text, lm.line, words, digest))
    check_coverage(lm.coverage(words), args.text, args.lm, lm, args.accept_unknown)
    if result.total.sentences == 0:
        raise InputError(args.text, None, "no sentence", "text, a sentence a line")
    # with the JSON on stdout, the line makes room for it
    print(result.summary(), file=sys.stderr if args.json == "-" else sys.stdout)
    if args.json:
        text = {"text_hash": digest.hexdigest()[:16]}
        made = {"provenance": provenance(args.command_line)}
        write_json(args.json, {**result.to_json(), **text, **made})


def _lines(
    path: str, form: Callable[[str], str], words: Counter[str], digest: hashlib._Hash
) -> Iterator[tuple[int, str]]:
    """Lines in the form that the LM wants; ``words`` and ``digest`` get those of the file."""
    from asrprune.core.progress import tracked
    from asrprune.files import read_lines

    for number, line in tracked(read_lines(path), "read", "lines"):
        found = line.split()
        words.update(found)
        if found:
            digest.update(f"{' '.join(found)}\n".encode())
        yield number, form(line)
