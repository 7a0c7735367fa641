"""``asrprune first-pass``: decode audio into n-best lists and lattices."""

from __future__ import annotations

import argparse

from asrprune.cli.modes import Mode
from asrprune.cli.sharding import add_shard_argument
from asrprune.cli.values import number, or_none, output_folder, whole
from asrprune.firstpass.decoders.pocketsphinx import FirstPassConfig
from asrprune.firstpass.decoders.table import DECODERS

EXAMPLE = """\
example:
  asrprune first-pass --decoder pocketsphinx --cuts cuts.jsonl.gz --nj 2 --out exp/first_pass

writes OUT/nbest.jsonl.gz, OUT/lattices/UTT.slf.gz, OUT/hyp and OUT/first_pass.json, all at its
end; a run that was interrupted goes on from OUT.decoding
"""

MODES = (
    Mode(("decoder", "cuts", "out", "nbest", "lattice_beam", "max_hmms", "max_words", "nj")),
    Mode(("allow_commands", "shard")),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``first-pass``."""
    default = FirstPassConfig()
    parser.add_argument(
        "--decoder", choices=list(DECODERS), default=next(iter(DECODERS)), help="first-pass decoder"
    )
    parser.add_argument(
        "--cuts", required=True, metavar="FILE", help="lhotse cuts (.jsonl or .jsonl.gz)"
    )
    parser.add_argument(
        "--out", required=True, type=output_folder, metavar="DIR", help="output folder"
    )
    parser.add_argument(
        "--nbest", type=whole(1), default=default.nbest, help="hypotheses for each utterance"
    )
    parser.add_argument(
        "--lattice-beam",
        type=number(0.0),
        default=default.lattice_beam,
        help="keep lattice paths whose total is at most this much below the best",
    )
    parser.add_argument(
        "--max-hmms",
        type=or_none(whole(1)),
        default=default.max_hmms,
        metavar="N",
        help="most active HMMs of a frame: fewer are faster (default: none, the decoder's own)",
    )
    parser.add_argument(
        "--max-words",
        type=or_none(whole(1)),
        default=default.max_words,
        metavar="N",
        help="most words that end in a frame (default: none, the decoder's own)",
    )
    parser.add_argument("--nj", type=whole(1), default=1, help="processes")
    add_shard_argument(parser)
    parser.add_argument(
        "--allow-commands",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="let cuts run commands and fetch audio (lhotse's types command and url, ffmpeg, "
        "sph2pipe): only for cuts that you trust",
    )


def run(args: argparse.Namespace) -> None:
    """Decode the cuts."""
    config = FirstPassConfig(args.nbest, args.lattice_beam, args.max_hmms, args.max_words)
    DECODERS[args.decoder](
        args.cuts, args.out, config, args.nj, args.command_line, args.allow_commands, args.part
    )
