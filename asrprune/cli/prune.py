"""``asrprune prune``: an LM of one size or many from a trained one."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TYPE_CHECKING, Any

from asrprune.cli.modes import Mode
from asrprune.cli.values import device, fractions, output_folder, seed, threads, whole

if TYPE_CHECKING:
    from asrprune.lm.training.distributed import ProcessGroup
    from asrprune.prune.run.plan import Plan

EXAMPLE = """example:
  asrprune prune --lm exp/lm --data data --criterion kfac --method low-rank --schedule cubic \
    --sparsity 0.3,0.5,0.7 --fine-tune-tokens 2000000 --out exp/low-rank
  torchrun --nproc-per-node 2 -m asrprune prune --lm exp/lm --data data --out exp/structured"""

WIDE = 128
"""Width from which LMs are told whether low rank pays: below it all is overhead."""

log = logging.getLogger(__name__)


def _plan(args: argparse.Namespace) -> Plan:
    """What the plan file and the flags over it say; read once."""
    from asrprune.core.config import replaced
    from asrprune.prune.run.plan import Plan, read_plan

    if "whole_plan" not in args:
        base = Plan() if args.plan is None else read_plan(args.plan, Plan())
        args.whole_plan = replaced(base, _overrides(args), args.set)
    plan: Plan = args.whole_plan
    return plan


def _reads_criterion(args: argparse.Namespace) -> bool:
    from asrprune.prune.methods import METHODS

    return not METHODS[_plan(args).method].fresh


FINE_TUNED = Mode(
    ("distill",),
    lambda args: _plan(args).fine_tune_tokens != 0,
    "has no use with --fine-tune-tokens 0",
)
STEPS = Mode((), lambda args: _plan(args).schedule != "elastic", "has no use for schedule elastic")
MODES = (
    Mode(("lm", "data", "out", "plan", "set", "seed", "threads", "device")),
    Mode(("method", "schedule", "sparsity", "fine_tune_tokens", "statistics_tokens")),
    Mode(("criterion",), _reads_criterion, "has no use for a method that makes fresh weights"),
    Mode(
        ("steps",),
        lambda args: _plan(args).schedule != "one-shot",
        "has no use for schedule one-shot",
        inside=STEPS,
    ),
    FINE_TUNED,
    Mode(
        ("teacher",),
        lambda args: _plan(args).fine_tuning.distill,
        "is given with --no-distill; expected one of them",
        inside=FINE_TUNED,
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from asrprune.prune.criteria import CRITERIA
    from asrprune.prune.methods import METHODS
    from asrprune.prune.run.plan import FINE_TUNE_SHARE, Plan
    from asrprune.prune.run.schedules import SCHEDULES

    default = Plan()
    unset = argparse.SUPPRESS
    parser.add_argument("--lm", required=True, help="checkpoint folder to prune")
    parser.add_argument("--data", required=True, help="folder written by `asrprune tokenize`")
    parser.add_argument(
        "--out",
        required=True,
        type=output_folder,
        metavar="DIR",
        help="folder for the pruned checkpoints; it appears when all are made, until then they "
        "are in DIR.pruning",
    )
    parser.add_argument(
        "--plan", metavar="FILE", help="plan as JSON, or a family's plan.json; flags override it"
    )
    parser.add_argument(
        "--criterion",
        choices=list(CRITERIA),
        default=unset,
        help=f"what says which units are worth least (default: {default.criterion})",
    )
    parser.add_argument(
        "--method",
        choices=list(METHODS),
        default=unset,
        help=f"which units are removed (default: {default.method})",
    )
    parser.add_argument(
        "--schedule",
        choices=list(SCHEDULES),
        default=unset,
        help="how much by when; one-shot makes each size on its own, linear and cubic all sizes in "
        "one run, elastic one LM that is cut to any size between the least and the greatest when "
        f"it is used, by --size (default: {default.schedule})",
    )
    parser.add_argument(
        "--sparsity",
        type=fractions,
        metavar="S,S,...",
        default=unset,
        help="fractions of the prunable parameters to remove: of all weights of the blocks' "
        f"matrices, not of biases, norms and embedding (default: {default.sparsities[0]})",
    )
    parser.add_argument(
        "--steps",
        type=whole(1),
        default=unset,
        help=f"pruning steps of a run (default: {default.steps})",
    )
    parser.add_argument(
        "--fine-tune-tokens",
        type=whole(0),
        default=unset,
        metavar="N",
        help="tokens of fine-tuning of one run; 0: none (default: "
        f"{FINE_TUNE_SHARE:g} of those of the training data)",
    )
    parser.add_argument(
        "--statistics-tokens",
        type=whole(1),
        default=unset,
        metavar="N",
        help=f"tokens read for the criterion at each step (default: {default.statistics_tokens})",
    )
    parser.add_argument(
        "--distill",
        action=argparse.BooleanOptionalAction,
        default=unset,
        help=f"learn from a larger LM in fine-tuning (default: {default.fine_tuning.distill})",
    )
    parser.add_argument(
        "--teacher", metavar="LM", help="that larger LM, a checkpoint folder (default: --lm)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other key of the plan; they are listed below",
    )
    parser.add_argument_group("keys of --set, with their defaults", _other_keys(default))
    parser.add_argument(
        "--seed", type=seed, default=unset, help=f"random seed (default: {default.seed})"
    )
    parser.add_argument("--threads", type=threads, help="CPU threads (default: torch's choice)")
    parser.add_argument(
        "--device",
        type=device,
        default="auto",
        help="torch device; auto is the GPU if there is one",
    )


def kept(args: argparse.Namespace) -> bool:
    """Whether there is a member or a state to go on from."""
    from asrprune.prune.run.folder import FamilyFolder

    return FamilyFolder(args.out, {}).has_begun()


def run(args: argparse.Namespace) -> None:
    import torch

    from asrprune.lm.training.distributed import process_group

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    with process_group(args.device) as group:
        _prune(args, group)


def _prune(args: argparse.Namespace, group: ProcessGroup) -> None:
    from asrprune.errors import InputError
    from asrprune.lm.model.checkpoint import load_checkpoint
    from asrprune.lm.open import lm_digest
    from asrprune.provenance import provenance
    from asrprune.prune.run.family import family_table
    from asrprune.prune.run.loop import prune_family
    from asrprune.prune.run.scorer import PruningData
    from asrprune.report.family_page import write_family_page
    from asrprune.text.corpus import open_corpus

    plan = _plan(args)
    place = str(group.device)
    parent = load_checkpoint(args.lm, place)
    corpus = open_corpus(args.data)

    def same_tokenizer(path: str, tokenizer: str) -> None:
        if tokenizer != parent.tokenizer_sha256:
            found = f"tokenizer hash {tokenizer[:12]}"
            expected = f"{parent.tokenizer_sha256[:12]}, that of {args.lm}"
            raise InputError(path, None, found, expected)

    same_tokenizer(args.data, corpus.data["tokenizer_sha256"])
    teacher = None
    if args.teacher is not None:
        large = load_checkpoint(args.teacher, place, mapped=True)
        same_tokenizer(args.teacher, large.tokenizer_sha256)
        longest, needed = (one.model.shape.max_positions for one in (large, parent))
        if longest < needed:
            expected = f"at least {needed}, those of {args.lm}"
            raise InputError(args.teacher, None, f"{longest} positions", expected)
        teacher = large.model
    data = PruningData(
        corpus.stream("train"), corpus.stream("valid") if corpus.has("valid") else None
    )
    digest = lm_digest(args.lm)
    made = provenance(
        args.command_line, seed=plan.seed, parent=args.lm, parent_digest=digest, data=args.data
    )
    identity = {"lm": digest, "data": corpus.digest}
    if args.teacher is not None:
        identity["teacher"] = lm_digest(args.teacher)
    family = prune_family(
        parent, data, plan, args.out, made, identity, teacher, group, describe=write_family_page
    )
    if group.is_first:
        sys.stdout.write(family_table(family) + "\n")
        if "low-rank" in plan.method and parent.model.width >= WIDE:
            from asrprune.lm.low_rank_speed import low_rank_speeds, summary

            sys.stdout.write(summary(low_rank_speeds(threads=args.threads)) + "\n")


def _other_keys(default: Plan) -> str:
    """A line a key that has no flag of its own: its default and what it is."""
    from asrprune.core.config import explained, flat
    from asrprune.lm.training.config import MEANINGS
    from asrprune.prune.run.plan import PLAN_MEANINGS

    trained = {f"fine_tuning.{key}": text for key, text in MEANINGS.items()}
    flagged = set(_KEYS.values())
    own = {key: value for key, value in flat(default).items() if key not in flagged}
    return explained(own, {**trained, **PLAN_MEANINGS})


_KEYS = {
    "criterion": "criterion",
    "method": "method",
    "schedule": "schedule",
    "sparsity": "sparsities",
    "steps": "steps",
    "fine_tune_tokens": "fine_tune_tokens",
    "statistics_tokens": "statistics_tokens",
    "distill": "fine_tuning.distill",
    "seed": "seed",
}
"""Flag -> the key of the plan that it states."""


def _overrides(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that were given, without --set, as a part of a plan.

    Raises ValueError for a key that --set states too.
    """
    value: dict[str, Any] = {}
    for flag, key in _KEYS.items():
        if flag not in args.given:
            continue
        for item in args.set:
            if item.partition("=")[0] == key:
                raise ValueError(
                    f"--set {item}: {key} has a flag, which is given too; expected one"
                )
        *parents, last = key.split(".")
        inner = value
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = getattr(args, flag)
    return value
