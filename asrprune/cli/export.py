"""``asrprune export``: an LM for another toolkit, checked through that toolkit's runtime."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import Any

from asrprune.cli.engine_flags import add_size_argument
from asrprune.cli.modes import Mode
from asrprune.cli.overwriting import add_force, keep_existing
from asrprune.cli.values import output, output_file, output_folder

EXAMPLE = "example: asrprune export --to onnx --form nll --lm exp/lm --out lm.onnx"

log = logging.getLogger(__name__)


def _exporter(args: argparse.Namespace) -> Any:
    from asrprune.exchange.exporters.table import EXPORTERS

    return EXPORTERS[args.to]


MODES = (
    Mode(("to", "lm", "size", "out", "form", "dtype", "verify")),
    Mode(("force",), lambda args: _exporter(args).is_folder, "has no use for {to}: it is a file"),
    Mode(("tokens",), lambda args: _exporter(args).needs_tokens, "has no use for {to}"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    from asrprune.exchange.exporters.table import EXPORTERS

    forms = "; ".join(f"{name}: {', '.join(one.forms)}" for name, one in EXPORTERS.items())
    parser.add_argument("--to", required=True, choices=list(EXPORTERS), help="partner")
    parser.add_argument("--lm", required=True, metavar="DIR", help="checkpoint folder")
    add_size_argument(parser)
    parser.add_argument(
        "--out", required=True, type=output, metavar="PATH", help="file or folder to write"
    )
    add_force(parser)
    parser.add_argument("--form", help=f"what the LM answers, the first by default ({forms})")
    parser.add_argument(
        "--dtype",
        help="numbers that weights are stored in: float32 (default), int8; gguf: float16, bfloat16,"
        " q8_0, q4_0",
    )
    parser.add_argument(
        "--tokens",
        metavar="FILE",
        help="the transducer's tokens.txt, whose tokens the LM must have",
    )
    parser.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare scores with the LM's before anything is written",
    )


def run(args: argparse.Namespace) -> None:
    """Load, write, say what was written."""
    from asrprune.core.tables import lookup
    from asrprune.exchange.exporters.exporter import Request
    from asrprune.lm.model.checkpoint import load_checkpoint
    from asrprune.lm.open import lm_digest

    exporter = _exporter(args)
    form = args.form or next(iter(exporter.forms))
    lookup(exporter.forms, form, f"--form of {args.to}")
    numbers = args.dtype or exporter.numbers[0]
    lookup({name: name for name in exporter.numbers}, numbers, f"--dtype of {args.to}")
    if exporter.needs_tokens and args.tokens is None:
        raise ValueError(f"--tokens is missing: {args.to} needs the transducer's tokens.txt")
    _check_place(args.out, exporter.is_folder, args.force)
    _keep_checkpoint(args.lm, args.out)
    checkpoint = load_checkpoint(args.lm, size=args.size)
    request = Request(
        lm=args.lm,
        model=checkpoint.model,
        tokenizer=checkpoint.tokenizer(),
        tokenizer_path=checkpoint.tokenizer_path,
        lm_digest=lm_digest(args.lm, args.size),
        form=form,
        numbers=numbers,
        verify=args.verify,
        tokens=args.tokens,
    )
    written = exporter.write(request, args.out)
    what = f"{args.out}: {args.to}, {form}, {numbers}, {written.size_bytes} bytes"
    if written.verified:
        log.info("%s; verified through %s", what, written.verified)
    else:
        log.warning("%s; NOT verified (--no-verify)", what)
    for note in written.notes:
        log.info("%s: %s", args.out, note)


def _keep_checkpoint(lm: str, out: str) -> None:
    """Raises ValueError for an output that would replace a file of the checkpoint."""
    from asrprune.lm.model.checkpoint import CONFIG, WEIGHTS

    target = Path(os.path.realpath(out))
    own = target.name in (CONFIG, WEIGHTS) or target.name.startswith("tokenizer.")
    if own and target.parent == Path(os.path.realpath(lm)) and target.is_file():
        raise ValueError(f"--out {out} is a file of --lm")


def _check_place(out: str, is_folder: bool, force: bool) -> None:
    """Raises ValueError for a place of the wrong kind, InputError for one that is taken."""
    try:
        (output_folder if is_folder else output_file)(out)
    except argparse.ArgumentTypeError as problem:
        raise ValueError(f"--out: {problem}") from None
    if is_folder:
        keep_existing(out, force)
