"""``asrprune list [AXIS]``: what each axis offers."""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from typing import Any

from asrprune.cli.modes import Mode
from asrprune.core.tables import lookup

EXAMPLE = "example: asrprune list criteria"

AXES = {
    "criteria": ("asrprune.prune.criteria", "CRITERIA"),
    "methods": ("asrprune.prune.methods", "METHODS"),
    "schedules": ("asrprune.prune.run.schedules", "SCHEDULES"),
    "factorisations": ("asrprune.prune.surgery.factorisation", "FACTORISATIONS"),
    "compensations": ("asrprune.prune.methods.compensation", "COMPENSATIONS"),
    "formats": ("asrprune.firstpass.formats.table", "FORMATS"),
    "decoders": ("asrprune.firstpass.decoders.table", "DECODERS"),
    "lattice-modes": ("asrprune.rescore.lattices.modes", "LATTICE_MODES"),
    "decisions": ("asrprune.rescore.decisions", "DECISIONS"),
    "architectures": ("asrprune.lm.model.architecture", "ARCHITECTURES"),
    "engines": ("asrprune.lm.engines.table", "ENGINES"),
    "exporters": ("asrprune.exchange.exporters.table", "EXPORTERS"),
    "special-words": ("asrprune.core.special_words", "KINDS"),
    "units": ("asrprune.core.units", "UNITS"),
    "normalisers": ("asrprune.text.normalise", "NORMALISERS"),
    "optimisers": ("asrprune.lm.training.optimizers", "OPTIMISERS"),
}
"""Axis -> (module, name of its table)."""

MODES = (Mode(("axis",)),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "axis", nargs="?", metavar="AXIS", help=f"one of {', '.join(AXES)} (default: all)"
    )


def run(args: argparse.Namespace) -> None:
    chosen = AXES if args.axis is None else {args.axis: lookup(AXES, args.axis, "axis")}
    for axis, (module, table) in chosen.items():
        sys.stdout.write(f"{axis}\n")
        entries = getattr(importlib.import_module(module), table)
        width = max(len(name) for name in entries)
        for name, entry in entries.items():
            sys.stdout.write(f"  {name:<{width}}  {describe(entry)}".rstrip() + "\n")


def describe(entry: Any) -> str:
    """The entry's ``description``, or the first line of its own docstring, behind its accuracy
    class if it has one; then what it reads.

    An entry may also be a pair of such a thing and the statistics that it reads.
    """
    entry, needs = entry if isinstance(entry, tuple) else (entry, getattr(entry, "needs", ()))
    text = getattr(entry, "description", None)
    if not isinstance(text, str):
        text = inspect.getdoc(entry) or ""
    if accuracy := getattr(entry, "accuracy", ""):
        text = f"[{accuracy}] {text}"
    reads = f" (reads {', '.join(sorted(needs))})" if needs else ""
    return text.strip().split("\n")[0] + reads
