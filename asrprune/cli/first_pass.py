"""``asrprune first-pass``: decode audio into n-best lists and lattices."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable

from asrprune.cli.modes import Mode
from asrprune.cli.sharding import add_shard_argument
from asrprune.cli.values import number, or_none, output_folder, whole
from asrprune.firstpass.decoders.decode import decode_cuts
from asrprune.firstpass.decoders.pocketsphinx import PocketSphinxConfig
from asrprune.firstpass.decoders.table import DECODERS
from asrprune.firstpass.decoders.whisper import WhisperConfig
from asrprune.text.normalise import NORMALISERS

EXAMPLE = """\
examples:
  asrprune first-pass --decoder pocketsphinx --cuts cuts.jsonl.gz --nj 2 --out exp/first_pass
  asrprune first-pass --decoder whisper --model whisper-small.en-ct2 --cuts cuts.jsonl.gz \\
    --nbest 20 --normalise librispeech --out exp/whisper

writes OUT/nbest.jsonl.gz, OUT/hyp, OUT/first_pass.json and, from pocketsphinx,
OUT/lattices/UTT.slf.gz, all at its end; a run that was interrupted goes on from OUT.decoding
"""


def _is(name: str) -> Callable[[argparse.Namespace], bool]:
    return lambda args: args.decoder == name


MODES = (
    Mode(("decoder", "cuts", "out", "nbest", "nj", "allow_commands", "shard")),
    Mode(
        ("lattice_beam", "max_hmms", "max_words"),
        _is("pocketsphinx"),
        "is of --decoder pocketsphinx, and this is {decoder}",
    ),
    Mode(
        ("model", "normalise", "language", "device", "compute_type"),
        _is("whisper"),
        "is of --decoder whisper, and this is {decoder}",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``first-pass``."""
    sphinx, whisper = PocketSphinxConfig(), WhisperConfig(model="")
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
        "--nbest",
        type=whole(1),
        help=f"hypotheses for each utterance (default: {sphinx.nbest}; whisper: {whisper.nbest}, "
        "the width of its beam)",
    )
    group = parser.add_argument_group("of pocketsphinx")
    group.add_argument(
        "--lattice-beam",
        type=number(0.0),
        help="keep lattice paths whose total is at most this much below the best "
        f"(default: {sphinx.lattice_beam})",
    )
    group.add_argument(
        "--max-hmms",
        type=or_none(whole(1)),
        metavar="N",
        help="most active HMMs of a frame: fewer are faster (default: none, the decoder's own)",
    )
    group.add_argument(
        "--max-words",
        type=or_none(whole(1)),
        metavar="N",
        help="most words that end in a frame (default: none, the decoder's own)",
    )
    group = parser.add_argument_group("of whisper (faster-whisper, CTranslate2)")
    group.add_argument(
        "--model", metavar="DIR", help="folder of a Whisper model in CTranslate2's form"
    )
    group.add_argument(
        "--normalise",
        choices=list(NORMALISERS),
        help="form of the words; with any but none, numbers are spelled and writings that differ "
        f"in case or punctuation are one hypothesis (default: {whisper.normalise})",
    )
    group.add_argument(
        "--language", help=f"what is spoken, ISO 639-1 (default: {whisper.language})"
    )
    group.add_argument("--device", choices=["auto", "cpu", "cuda"], help="(default: auto)")
    group.add_argument(
        "--compute-type",
        metavar="TYPE",
        help="CTranslate2's: int8, float16, float32, ... (default: that of the model)",
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


def kept(args: argparse.Namespace) -> bool:
    """Whether utterances were decoded that it would go on behind."""
    from asrprune.firstpass.decoders.state import DecodingFolder

    done = DecodingFolder(args.out, {}).done
    return done.is_file() and done.stat().st_size > 0


def run(args: argparse.Namespace) -> None:
    """Decode the cuts."""
    if args.decoder == "whisper" and args.model is None:
        raise ValueError("--decoder whisper needs --model")
    kind = DECODERS[args.decoder]
    names = (field.name for field in dataclasses.fields(kind))
    config = kind(**{name: value for name in names if (value := getattr(args, name)) is not None})
    run = args.nj, args.command_line, args.allow_commands, args.part
    decode_cuts(args.cuts, args.out, config, *run)
