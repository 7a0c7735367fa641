"""``asrprune recommend``: the pruning plan for an LM and a budget, as the study's numbers say."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING, Any, Optional

from asrprune.cli.modes import Mode
from asrprune.cli.values import output_file

if TYPE_CHECKING:
    from asrprune.lm.model.checkpoint import Checkpoint
    from asrprune.prune.recommend.plan import Budget, LmSize, Recommendation
    from asrprune.prune.recommend.table import Row

EXAMPLE = """\
examples:
  asrprune recommend --lm exp/lm --budget 0.5
  asrprune recommend --lm exp/lm --budget 12MB --json advice.json"""

MODES = (Mode(("lm", "budget", "table", "json")),)


def _budget(text: str) -> Budget:
    from asrprune.prune.recommend.plan import parse_budget

    try:
        return parse_budget(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem).removeprefix("budget ")) from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--lm", required=True, metavar="DIR", help="checkpoint folder of the dense LM"
    )
    parser.add_argument(
        "--budget",
        required=True,
        type=_budget,
        help="what must be met: megabytes of the weights file (12MB), its share of that "
        "of --lm (0.5), or times as fast as --lm (4x)",
    )
    parser.add_argument(
        "--table", metavar="FILE", help="table of a study (default: the one of this version)"
    )
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="also write the plans as JSON; -: stdout"
    )


def run(args: argparse.Namespace) -> None:
    """Print the plans; raises InputError for a budget that the study did not reach."""
    from pathlib import Path

    from asrprune.errors import InputError
    from asrprune.files import write_json
    from asrprune.lm.model.checkpoint import load_checkpoint
    from asrprune.provenance import provenance
    from asrprune.prune.recommend.plan import LmSize, is_met, nearest, recommend
    from asrprune.prune.recommend.table import read_table

    if Path(args.lm).is_file():
        raise InputError(args.lm, None, "a file", "the folder of a checkpoint (no n-gram LM)")
    checkpoint = load_checkpoint(args.lm, mapped=True)
    if checkpoint.history:
        raise InputError(args.lm, None, "a pruned LM", "a dense one, as those of the study")
    size = LmSize.of(checkpoint)
    rows = nearest(read_table(args.table), size.parameters)
    met = is_met(args.budget, size)
    try:
        plans = [] if met else recommend(rows, size, args.budget)[:2]
    except ValueError as problem:
        found, _, expected = str(problem).partition("; expected ")
        raise InputError(args.lm, None, found, expected) from None
    tokens = _training_tokens(checkpoint)
    commands = [_command(args.lm, plan, tokens or rows[0].training_tokens) for plan in plans]
    stream = sys.stderr if args.json == "-" else sys.stdout
    for line in _lines(args.lm, size, rows[0], plans, commands, tokens):
        print(line, file=stream)
    if args.json:
        made = {"provenance": provenance(args.command_line)}
        write_json(args.json, _json(size, rows[0], plans, commands, met) | made)


def _training_tokens(checkpoint: Checkpoint) -> Optional[int]:
    """Tokens that the LM says it was trained on."""
    training = checkpoint.provenance.get("training")
    tokens = training.get("tokens") if isinstance(training, dict) else None
    return tokens if isinstance(tokens, int) and 0 < tokens < 2**63 else None


def _command(lm: str, plan: Recommendation, training_tokens: int) -> str:
    method, criterion, schedule, budget = plan.family
    sparsities = f"{plan.sparsity:g}"
    if schedule == "elastic":
        sparsities = ",".join(f"{end:g}" for end in plan.range)
    words = ["asrprune", "prune", "--lm", shlex.quote(lm), "--data", "DATA", "--method", method]
    words += [] if criterion is None else ["--criterion", criterion]
    words += [] if schedule is None else ["--schedule", schedule]
    words += ["--sparsity", sparsities]
    words += ["--fine-tune-tokens", str(round(budget * training_tokens))]
    if plan.statistics_tokens is not None:
        words += ["--statistics-tokens", str(plan.statistics_tokens)]
    for setting in plan.settings:
        words += ["--set", setting]
    return " ".join([*words, "--out", "OUT"])


def _lines(
    lm: str,
    size: LmSize,
    row: Row,
    plans: list[Recommendation],
    commands: list[str],
    tokens: Optional[int],
) -> list[str]:
    dense = f"{lm}: {size.parameters / 1e6:.3g} M parameters, {size.bytes / 1e6:.3f} MB"
    if not plans:
        return [dense, "nothing to do: the LM meets the budget as it is"]
    lines = [dense]
    for name, plan in zip(("best", "runner-up"), plans):
        lines += [f"{name}: {_named(plan)}", f"  {_expected(plan)}"]
    lines += ["", commands[0]]
    if plans[0].family[2] == "elastic":
        lines.append(f"then open it with --size {plans[0].sparsity:g}")
    if plans[0].family[3] > 0 and tokens is None:
        lines.append(
            f"fine-tuning tokens: {plans[0].family[3]:g} of the training tokens of {row.lm} "
            f"({row.training_tokens}), as {lm} does not say how many it saw"
        )
    ratio = f"{size.parameters / row.parameters:.2g}"
    many = "as many" if ratio == "1" else f"{ratio} times as many"
    lines.append(
        f"from the study's LM {row.lm}, {row.parameters / 1e6:.3g} M parameters: this LM has "
        f"{many}; intervals (95 %) and speeds are those measured there"
    )
    lines.append("between two measured sizes all figures are read off a straight line")
    return lines


def _named(plan: Recommendation) -> str:
    method, criterion, schedule, budget = plan.family
    parts = [method, *(one for one in (criterion, schedule) if one is not None)]
    tuned = f"fine-tuned on {100 * budget:g} % of the training tokens" if budget else "no tuning"
    zeros = "".join(f" and {share:g} of the {table}" for table, share in plan.zeros.items())
    return f"{', '.join(parts)}, sparsity {plan.sparsity:g}{zeros}, {tuned}"


def _expected(plan: Recommendation) -> str:
    mean, low, high = plan.perplexity_ratio
    text = (
        f"about {plan.bytes / 1e6:.3f} MB, perplexity times {mean:.3f} ({low:.3f} to {high:.3f}), "
    )
    if plan.wer_difference is None:
        text += "WER not measured"
    else:
        mean, low, high = plan.wer_difference
        text += f"WER {mean:+.2f} points ({low:+.2f} to {high:+.2f})"
    return text + (
        ", speed not measured" if plan.speed_ratio is None else f", {plan.speed_ratio:.2f}x as fast"
    )


def _json(
    size: LmSize, row: Row, plans: list[Recommendation], commands: list[str], met: bool
) -> dict[str, Any]:
    from asrprune.prune.recommend.table import ZEROS

    keys = ("method", "criterion", "schedule", "budget")
    return {
        "met": met,
        "lm": {"parameters": size.parameters, "bytes": size.bytes},
        "study_lm": {"name": row.lm, "parameters": row.parameters},
        "plans": [
            {
                **dict(zip(keys, plan.family)),
                "sparsity": plan.sparsity,
                **{f"{table}_sparsity": plan.zeros.get(table, 0.0) for table in ZEROS},
                "bytes": round(plan.bytes),
                "perplexity_ratio": plan.perplexity_ratio,
                "wer_difference": plan.wer_difference,
                "times_dense": plan.speed_ratio,
                "command": command,
            }
            for plan, command in zip(plans, commands)
        ],
    }
