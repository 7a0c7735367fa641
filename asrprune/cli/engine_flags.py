"""Flags of the verbs that run a checkpoint: engine, threads, device, ... and when they are read."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Union

from asrprune.cli.modes import Mode
from asrprune.cli.values import device, lm_size, threads, whole

if TYPE_CHECKING:
    from asrprune.lm.engines.engine import EngineOptions

log = logging.getLogger(__name__)


def lm_paths(args: argparse.Namespace) -> list[str]:
    """The LMs of the call: that of ``--lm``, or those of ``--system NAME=PATH``, where a verb has
    it."""
    named = getattr(args, "system", None)
    return [args.lm] if named is None else [path for _, path in named]


def lm_names(paths: Iterable[str], size: Union[float, str, None] = None) -> list[str]:
    """What the LMs at ``paths`` are called, checkpoints at ``size``."""
    from asrprune.lm.open import is_ngram, short_name

    return [short_name(path, None if is_ngram(path) else size) for path in paths]


def _is_checkpoint(args: argparse.Namespace) -> bool:
    from asrprune.lm.open import is_ngram

    return not all(map(is_ngram, lm_paths(args)))


def _calibrates(args: argparse.Namespace) -> bool:
    from asrprune.lm.engines.table import CHOICES, ENGINES

    return args.engine not in CHOICES and ENGINES[args.engine].calibrated


CHECKPOINT = Mode(
    ("engine", "threads", "device", "token_budget", "size"),
    active=_is_checkpoint,
    otherwise="has no use for an n-gram LM",
)
ENGINE_MODES = (
    CHECKPOINT,
    Mode(("calibration",), _calibrates, "has no use for engine {engine}", inside=CHECKPOINT),
)
"""Of ``add_engine_arguments``; the LMs are those of ``lm_paths``."""


def warn_of_over_long(args: argparse.Namespace, count: int, what: str = "hypotheses") -> None:
    """Say what ``--over-long`` did to ``count`` hypotheses."""
    if count and args.over_long == "window":
        text = "%d %s longer than the LM's positions are scored with a sliding context of half of"
        log.warning(text + " them", count, what)
    elif count:
        text = "%d hypotheses longer than the LM's positions got -inf: where they are right, a"
        log.warning(text + " shorter one wins (--over-long window scores them)", count)


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of everything that runs one LM."""
    from asrprune.lm.engines.engine import GPU_TOKEN_BUDGET, TOKEN_BUDGET, EngineOptions
    from asrprune.lm.engines.table import CHOICES, ENGINES

    default = EngineOptions()
    group = parser.add_argument_group("how a checkpoint is run (no use for an n-gram)")
    group.add_argument(
        "--engine",
        choices=[*CHOICES, *ENGINES],
        default="torch",
        help="what computes; auto takes the fastest here that keeps float32, fastest-bf16 and "
        "fastest also of those in bf16 or int8: measured once, in seconds, and said",
    )
    group.add_argument(
        "--calibration",
        metavar="PATH",
        help="text or data folder on which onnx-int8 and openvino-int8 measure their ranges "
        "(default: text drawn from the model)",
    )
    group.add_argument("--threads", type=threads, default=default.threads, help="CPU threads")
    group.add_argument(
        "--device", type=device, default=default.device, help="auto, cpu, cuda, cuda:1, ..."
    )
    group.add_argument(
        "--token-budget",
        type=whole(1),
        help="most tokens in the forward passes of one moment: bounds memory, does not change "
        f"scores (default: {TOKEN_BUDGET}, and {TOKEN_BUDGET // 2} a thread beyond two; on a GPU "
        f"{GPU_TOKEN_BUDGET}, or as many as its free memory holds)",
    )


def add_size_argument(parser: argparse._ActionsContainer) -> None:
    """The flag of verbs that take an elastic LM at one of its sizes."""
    parser.add_argument(
        "--size",
        type=lm_size,
        metavar="S|MB|X",
        help="of an elastic LM (`prune --schedule elastic`): the sparsity to cut it to, the "
        "fraction of prunable weights removed as in `prune --sparsity` (0.5), the most megabytes "
        "of its weights file (12MB), or how many times as fast as the largest size it is to be "
        "(2.5x: measured here in seconds, once, by the engine of the call or else the fastest); "
        "without it, the largest",
    )


def add_over_long_argument(
    parser: argparse._ActionsContainer, scored: str = "a hypothesis"
) -> None:
    """Add ``--over-long`` for a verb that needs a score of everything (of ``scored``)."""
    from asrprune.lm.windows import ALL_SCORED

    parser.add_argument(
        "--over-long",
        choices=ALL_SCORED,
        default="error",
        help=f"{scored} longer than the LM's positions: refuse, or score it in windows of a "
        "sliding context",
    )


def settle_speed(args: argparse.Namespace) -> None:
    """Put the sparsity in the place of a ``--size`` that is a speed.

    Raises ValueError with ``--shard``, whose parts are of one size on all machines, and where not
    one checkpoint is opened; as ``sparsity_at_speed`` does for the LM.
    """
    from asrprune.lm.elastic_speed import sparsity_at_speed
    from asrprune.lm.engines.engine import EngineOptions
    from asrprune.lm.model.elastic import parse_speed
    from asrprune.lm.open import is_ngram

    times = parse_speed(args.size)
    assert times is not None
    if getattr(args, "shard", None) is not None:
        found = f"--size {args.size} with --shard, and machines differ in speed"
        raise ValueError(f"{found}; expected a sparsity or megabytes")
    named = args.lm if isinstance(args.lm, list) else lm_paths(args)
    paths = [path for path in named if not is_ngram(path)]
    if len(paths) != 1:
        found = f"--size {args.size} of {len(paths)} LMs"
        raise ValueError(f"{found}; expected one, or a sparsity or megabytes")
    device, calibration = getattr(args, "device", "auto"), getattr(args, "calibration", None)
    options = EngineOptions(getattr(args, "threads", None), device, calibration)
    engine = getattr(args, "engine", None) or "fastest"
    args.size = sparsity_at_speed(paths[0], times, engine, options)


def engine_options(args: argparse.Namespace) -> EngineOptions:
    """What the flags say about the engine.

    Raises ValueError for what the engine cannot do. Of no use for an n-gram, but harmless.
    """
    from asrprune.lm.engines.engine import EngineOptions
    from asrprune.lm.engines.table import CHOICES, check_engine

    options = EngineOptions(args.threads, args.device, args.calibration)
    if CHECKPOINT.holds(args) and args.engine not in CHOICES:
        check_engine(args.engine, options)
        log.info("engine %s (asked for)", args.engine)
    return options


def check_keeping_engine(engine: str, use: str) -> None:
    """Raise ValueError unless the engine keeps keys and values, which ``use`` needs."""
    if engine != "torch":  # without torch, which takes a second
        from asrprune.core.tables import lookup
        from asrprune.lm.engines.table import ENGINES, KEEPING

        lookup({name: ENGINES[name] for name in KEEPING}, engine, f"engine for {use}")
