"""``asrprune recommend``: the pruning plan that the study's numbers say for an LM and a budget."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from asrprune.cli.modes import Mode
from asrprune.cli.values import output_file

if TYPE_CHECKING:
    from asrprune.prune.recommend.choose import Budget, Choice, Subject
    from asrprune.prune.recommend.table import Row

EXAMPLE = """\
examples:
  asrprune recommend --lm exp/lm --budget 12MB
  asrprune recommend --lm exp/lm --budget 0.5
  asrprune recommend --lm exp/lm --budget 4x --json plan.json
"""

MODES = (Mode(("lm", "budget", "table", "json")),)
SHOWN = 3
"""Plans that are printed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``asrprune recommend``."""
    parser.add_argument("--lm", required=True, help="checkpoint folder that is to be pruned")
    parser.add_argument(
        "--budget",
        required=True,
        metavar="MB|SHARE|SPEED",
        help="the most megabytes of the weights file (12MB), the share of its bytes to keep (0.5), "
        "or how many times as fast as the LM as it is (4x)",
    )
    parser.add_argument(
        "--table", metavar="FILE", help="numbers of another study (default: those of recipes/study)"
    )
    parser.add_argument(
        "--json", metavar="FILE", type=output_file, help="write the plans (- is stdout)"
    )


def run(args: argparse.Namespace) -> None:
    """Print the plans.

    Raises InputError for an LM that is no checkpoint, a table that is none and a budget that no
    size in it meets; ValueError for a budget that is none.
    """
    from asrprune.errors import InputError
    from asrprune.files import write_json
    from asrprune.prune.recommend.choose import choose, nearest_lm, parse_budget, smallest
    from asrprune.prune.recommend.table import STUDY, read_study_table

    table = args.table or STUDY
    subject = _subject(args.lm)
    budget = parse_budget(args.budget, subject.size_bytes)
    every = read_study_table(table)
    lm = nearest_lm(every, subject)
    rows = [row for row in every if row.family.lm == lm]
    choices = [] if budget.met else choose(rows, subject, budget)
    if not choices and not budget.met:
        found = f"no plan for a budget of {args.budget}"
        raise InputError(table, None, found, _at_most(smallest(rows, subject, budget), budget))
    if args.json != "-":
        print(_report(args.lm, args.budget, subject, rows, choices))
    if args.json is not None:
        write_json(args.json, _as_json(args, rows, choices))


def _subject(path: str) -> Subject:
    """What the LM weighs, and how much of it may be pruned."""
    from asrprune.errors import InputError
    from asrprune.lm.model.checkpoint import load_checkpoint
    from asrprune.lm.model.transformer import count_parameters
    from asrprune.lm.open import is_ngram
    from asrprune.prune.recommend.choose import Subject

    if is_ngram(path):
        raise InputError(path, None, "an n-gram model", "a checkpoint folder")
    checkpoint = load_checkpoint(path)
    prunable = sum(matrix.weights for _, matrix in checkpoint.model.linears())
    return Subject(checkpoint.size_bytes(), count_parameters(checkpoint.model), prunable)


def _at_most(value: float | None, budget: Budget) -> str:
    if value is None:
        return "a budget in bytes: the table has no speed"
    if budget.share is not None:
        return f"{value:.2f} of the bytes or more, the smallest size that was measured"
    return f"{value:.1f}x at most, the fastest that was measured"


def _report(
    lm: str, budget: str, subject: Subject, rows: Sequence[Row], choices: Sequence[Choice]
) -> str:
    name, ratio = rows[0].family.lm, subject.parameters / rows[0].parameters
    lines = [
        f"{lm}: {subject.size_bytes / 1e6:.2f} MB, {subject.parameters / 1e6:.2f} M parameters, "
        f"{100 * subject.prunable / subject.parameters:.0f} % of them prunable"
    ]
    if not choices:
        return "\n".join([*lines, f"budget {budget}: met by the LM as it is"])
    lines.append(f"budget {budget}: the plans with the least loss of perplexity")
    lines += [f"  {number}. {_described(one, subject)}" for number, one in enumerate(choices, 1)]
    lines = lines[: 2 + SHOWN]
    lines += ["", _command(lm, choices[0], rows[0].training_tokens), ""]
    lines.append(
        f"numbers of recipes/study's LM {name} ({rows[0].parameters / 1e6:.1f} M parameters, "
        f"trained on {rows[0].training_tokens / 1e6:.1f} M tokens); yours has {ratio:.2g} times as "
        "many parameters, and the further from 1 that is, the less they say"
    )
    return "\n".join(lines)


def _described(one: Choice, subject: Subject) -> str:
    family = one.family
    value, low, high = one.perplexity_ratio
    parts = [
        f"{family.method}, {family.criterion}, {family.schedule}, sparsity {one.sparsity:.2f}, "
        f"fine-tuned on {family.budget:g} of the training's tokens: "
        f"{one.bytes_share * subject.size_bytes / 1e6:.2f} MB",
        f"perplexity x {value:.3f} [{low:.3f}, {high:.3f}]",
    ]
    if one.wer_difference:
        value, low, high = one.wer_difference
        parts.append(f"WER {value:+.2f} [{low:+.2f}, {high:+.2f}]")
    if one.speed_ratio:
        parts.append(f"{one.speed_ratio:.1f} times as fast")
    return ", ".join(parts)


def _command(lm: str, one: Choice, training_tokens: int) -> str:
    """The call of prune; a schedule that made a family makes one size with it too."""
    family = one.family
    words = ["asrprune", "prune", "--lm", lm, "--data", "DATA", "--method", family.method]
    words += ["--criterion", family.criterion, "--schedule", family.schedule.split()[0]]
    words += ["--sparsity", f"{one.sparsity:.2f}"]
    words += ["--fine-tune-tokens", str(round(family.budget * training_tokens)), "--out", "OUT"]
    return shlex.join(words)


def _as_json(
    args: argparse.Namespace, rows: Sequence[Row], choices: Sequence[Choice]
) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "lm": args.lm,
        "budget": args.budget,
        "study_lm": rows[0].family.lm,
        "plans": [asdict(one) for one in choices],
        "command": _command(args.lm, choices[0], rows[0].training_tokens) if choices else None,
    }
