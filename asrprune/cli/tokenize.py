"""``asrprune tokenize``: text files to a tokeniser and a token stream."""

from __future__ import annotations

import argparse
import logging

from asrprune.cli.modes import Mode
from asrprune.cli.overwriting import add_force, keep_existing
from asrprune.cli.values import number, output_folder, seed, whole
from asrprune.core.units import UNITS, WORD
from asrprune.text.normalise import NORMALISERS
from asrprune.text.sentencepiece import MODEL_TYPES, WORD_PIECES, TokenizerConfig

EXAMPLE = """example:
  asrprune tokenize --text train.txt.gz --valid valid.txt --vocab-size 2000 --out data"""

MODES = (
    Mode(("text", "valid", "normalise", "language", "unit", "tokenizer", "out", "force")),
    Mode(
        ("vocab_size", "model_type", "character_coverage", "sample_sentences", "seed"),
        active=lambda args: args.tokenizer is None,
        otherwise="has no use with --tokenizer, which is trained already",
    ),
)

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    default = TokenizerConfig()
    parser.add_argument(
        "--text",
        nargs="+",
        action="extend",
        required=True,
        metavar="FILE",
        help="training text, a sentence a line; .gz, .xz and - (standard input) are accepted",
    )
    parser.add_argument("--valid", metavar="FILE", help="validation text, a sentence a line")
    parser.add_argument(
        "--vocab-size",
        type=whole(4),
        help=f"pieces (default: {WORD_PIECES}, more for a large alphabet, fewer where the text "
        "cannot fill them)",
    )
    parser.add_argument(
        "--normalise",
        choices=NORMALISERS,
        default="none",
        help="what is done to every line, and later to what the LM scores (asr and librispeech "
        "drop digits: write numbers as words first)",
    )
    parser.add_argument(
        "--language", metavar="CODE", help="of the text (tr, az: I and i without and with a dot)"
    )
    parser.add_argument(
        "--unit",
        choices=UNITS,
        default=WORD,
        help="what the LM takes for a word: char, every character; mixed, every Han and kana "
        "character; so that text with and without spaces is the same to it",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="FILE",
        help="use this SentencePiece model, with the ids that it has (also icefall's <sos/eos>), "
        "and train none, so that --vocab-size, --model-type, --character-coverage, "
        "--sample-sentences and --seed have no use",
    )
    parser.add_argument(
        "--model-type", choices=MODEL_TYPES, default=default.model_type, help="kind of pieces"
    )
    parser.add_argument(
        "--character-coverage",
        type=coverage,
        default=default.character_coverage,
        metavar="SHARE",
        help="of all characters that get pieces: the rarest are left out and become <unk>; 0.9995 "
        "for Chinese or Japanese",
    )
    parser.add_argument(
        "--sample-sentences",
        type=whole(1),
        default=default.sample_sentences,
        help="sentences that the pieces are learned from",
    )
    parser.add_argument("--seed", type=seed, default=default.seed, help="of that sample")
    parser.add_argument(
        "--out", required=True, type=output_folder, metavar="DIR", help="folder to write"
    )
    add_force(parser)


def coverage(text: str) -> float:
    """A share of characters, from 0.98 to 1."""
    share = number(0.98)(text)
    if share > 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a share from 0.98 to 1")
    return share


def run(args: argparse.Namespace) -> None:
    """Write the folder."""
    from asrprune.files import open_binary
    from asrprune.text.form import TextForm
    from asrprune.text.pack import pack_corpus

    keep_existing(args.out, args.force)
    if args.valid is not None:
        with open_binary(args.valid):  # its absence would come to light after the training
            pass
    config = TokenizerConfig(
        args.vocab_size,
        args.model_type,
        args.sample_sentences,
        args.seed,
        args.unit,
        args.character_coverage,
    )
    form = TextForm(args.normalise, language=args.language, unit=args.unit)
    packed = pack_corpus(args.text, args.valid, config, args.out, form, tokenizer=args.tokenizer)
    log.info("%d pieces; text form: %s", packed.vocab_size, packed.form.stated())
    for name, counts in packed.data["sets"].items():
        log.info(
            "%s: %d sentences, %d words (%d OOV), %d tokens",
            name,
            counts["sentences"],
            counts["words"],
            counts["oov_words"],
            counts["tokens"],
        )
