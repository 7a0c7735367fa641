"""``asrprune tokenize``: text files to a tokeniser and a token stream."""

from __future__ import annotations

import argparse
import logging

from asrprune.text.normalise import NORMALISERS
from asrprune.text.sentencepiece import MODEL_TYPES, TokenizerConfig

EXAMPLE = """example:
  asrprune tokenize --text train.txt.gz --valid valid.txt --vocab-size 2000 --out data"""

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    default = TokenizerConfig()
    parser.add_argument(
        "--text",
        nargs="+",
        required=True,
        metavar="FILE",
        help="training text, a sentence a line; .gz, .xz and - (standard input) are accepted",
    )
    parser.add_argument("--valid", metavar="FILE", help="validation text, a sentence a line")
    parser.add_argument("--vocab-size", type=int, default=default.vocab_size, help="pieces")
    parser.add_argument(
        "--normalise", choices=NORMALISERS, default="none", help="what is done to every line"
    )
    parser.add_argument(
        "--tokenizer",
        metavar="FILE",
        help="use this SentencePiece model (ids <unk> 0, <s> 1, </s> 2) and train none; "
        "--vocab-size, --model-type, --sample-sentences and --seed then have no effect",
    )
    parser.add_argument(
        "--model-type", choices=MODEL_TYPES, default=default.model_type, help="kind of pieces"
    )
    parser.add_argument(
        "--sample-sentences",
        type=int,
        default=default.sample_sentences,
        help="sentences that the pieces are learned from",
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="of that sample")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")


def run(args: argparse.Namespace) -> None:
    """Write the folder."""
    from asrprune.text.pack import pack_corpus

    config = TokenizerConfig(args.vocab_size, args.model_type, args.sample_sentences, args.seed)
    packed = pack_corpus(
        args.text, args.valid, config, args.out, args.normalise, tokenizer=args.tokenizer
    )
    for name, counts in packed.data["sets"].items():
        log.info(
            "%s: %d sentences, %d words (%d OOV), %d tokens",
            name,
            counts["sentences"],
            counts["words"],
            counts["oov_words"],
            counts["tokens"],
        )
