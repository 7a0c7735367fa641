"""``asrprune train``: a token stream to a Transformer LM."""

from __future__ import annotations

import argparse
from typing import Any

from asrprune.cli.modes import Mode
from asrprune.cli.overwriting import add_force
from asrprune.cli.values import device, output_folder, threads

EXAMPLE = """example:
  asrprune train --data data --set model.d_model=192 --set max_steps=1000 --out exp/lm
  torchrun --nproc-per-node 2 -m asrprune train --data data --config train.json --out exp/lm

Run again after a kill, the same command goes on from DIR.training (--out DIR)."""

MODES = (
    Mode(("data", "config", "set", "init", "tokens", "out", "force")),
    Mode(("threads", "device", "tensorboard")),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--data", required=True, metavar="DIR", help="folder written by asrprune tokenize"
    )
    parser.add_argument(
        "--config", metavar="FILE", help="JSON with the keys that --set knows; others keep defaults"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting, over --config; may be repeated; the keys are listed below",
    )
    parser.add_argument(
        "--init", metavar="DIR", help="checkpoint to start from; zeros that pruning made stay"
    )
    parser.add_argument(
        "--tokens",
        metavar="FILE",
        help="tokens.txt of the transducer that is to take the LM: other pieces are refused",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=output_folder,
        metavar="DIR",
        help="checkpoint folder to write",
    )
    add_force(parser)
    parser.add_argument(
        "--threads", type=threads, help="CPU threads of each process (default: torch's choice)"
    )
    parser.add_argument("--device", type=device, default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--tensorboard",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="also log to DIR.training/tensorboard",
    )
    parser.add_argument_group("keys of --set and --config, with their defaults", _keys())


def _keys() -> str:
    """A line a key of TrainingConfig: its default and what it is."""
    from asrprune.core.config import explained, flat
    from asrprune.lm.training.config import MEANINGS, TrainingConfig

    return explained(flat(TrainingConfig()), MEANINGS)


def kept(args: argparse.Namespace) -> bool:
    """Whether a checkpoint was written to go on from."""
    from asrprune.lm.training.state import STATE, state_folder

    return (state_folder(args.out) / STATE).is_file()


def run(args: argparse.Namespace) -> None:
    """Train."""
    import torch

    from asrprune.core.config import from_json
    from asrprune.files import read_json
    from asrprune.lm.model.checkpoint import load_checkpoint
    from asrprune.lm.training.config import TrainingConfig
    from asrprune.lm.training.distributed import process_group
    from asrprune.lm.training.state import remove_run
    from asrprune.lm.training.train import train
    from asrprune.text.corpus import open_corpus
    from asrprune.text.tokenizer import Tokenizer
    from asrprune.text.tokens_file import check_tokens

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    with process_group(args.device) as group:
        value = {} if args.config is None else read_json(args.config)
        if args.init is not None:
            _refuse_shape(args, value)
        config = from_json(TrainingConfig, value, args.config or "--set", args.set)
        data = open_corpus(args.data)
        if args.tokens is not None:
            check_tokens(args.tokens, Tokenizer(data.tokenizer_path).model)
        init = None if args.init is None else load_checkpoint(args.init)
        if args.force and group.is_first:
            remove_run(args.out)
        train(data, config, args.out, init, group, args.command_line, args.tensorboard)


def _refuse_shape(args: argparse.Namespace, value: Any) -> None:
    """Raise ValueError for settings of the model, be they those that it has by default."""
    stated = [f"--set {one}" for one in args.set if one.startswith("model.")]
    if isinstance(value, dict) and any(key.partition(".")[0] == "model" for key in value):
        stated.append(f"model in {args.config}")
    if stated:
        raise ValueError(f"{stated[0]} has no use with --init, which has its own shape")
