"""The ``asrprune`` command: finds the verb, runs it, turns errors into one line and a status."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, Optional

from asrprune import __version__
from asrprune.cli.interrupts import Terminated, end_with_torchrun, terminated_in_order
from asrprune.cli.modes import check_options, parse
from asrprune.cli.outputs import is_first_process, locked_outputs
from asrprune.cli.primitive_cache import keep_few_primitives
from asrprune.cli.waiting_threads import let_waiting_threads_sleep
from asrprune.core.tables import lookup
from asrprune.errors import InputError, MissingPackage, shortened

COMMANDS = {
    "list": ("asrprune.cli.list", "what each axis offers: criteria, methods, formats, ..."),
    "tokenize": ("asrprune.cli.tokenize", "train SentencePiece and pack text as a token stream"),
    "train": ("asrprune.cli.train", "train a Transformer LM"),
    "import": ("asrprune.cli.import_lm", "take an LM of another toolkit as a checkpoint"),
    "perplexity": ("asrprune.cli.perplexity", "perplexity per token and per word of a text"),
    "trim": ("asrprune.cli.trim", "drop the pieces that a text never uses from an imported LM"),
    "prune": ("asrprune.cli.prune", "prune an LM to one or many sizes"),
    "recommend": ("asrprune.cli.recommend", "the pruning plan for an LM and a budget"),
    "first-pass": ("asrprune.cli.first_pass", "decode audio into n-best lists and lattices"),
    "convert": ("asrprune.cli.convert", "convert n-best lists and lattices between formats"),
    "validate": ("asrprune.cli.validate", "check a file of n-best lists or lattices"),
    "lmscore": ("asrprune.cli.lmscore", "score every hypothesis of n-best lists with an LM"),
    "tune": ("asrprune.cli.tune", "tune score weights on the dev set"),
    "rescore": ("asrprune.cli.rescore", "choose the best hypotheses under given weights"),
    "merge": ("asrprune.cli.merge", "put the shards of a command on many machines together"),
    "wer": ("asrprune.cli.wer", "word error rate with a confidence interval"),
    "oracle": ("asrprune.cli.oracle", "oracle word error rate of n-best lists or lattices"),
    "bench": ("asrprune.cli.bench", "measure the speed of LM scoring"),
    "export": ("asrprune.cli.export", "write an LM for a decoder or toolkit of others"),
    "sweep": ("asrprune.cli.sweep", "score, tune, rescore and measure many LMs, to a report"),
    "report": ("asrprune.cli.report", "tables and a page with plots from finished runs"),
    "completion": ("asrprune.cli.completion", "script for completion in bash or zsh"),
}
"""verb -> (module, help), in pipeline order. The module has ``add_arguments(parser)``, ``MODES``
(which of them are read when) and ``run(args)``; that of a verb that goes on after a kill also
``kept(args)``, whether there is anything that it would go on from."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one verb. Returns the exit status: 0 done, 1 bad data, 2 bad usage."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _top_parser()
    if not argv or argv[0].startswith("-"):
        parser.parse_args(argv)
        parser.print_help(sys.stderr)
        return 2
    try:
        lookup(COMMANDS, argv[0], "command")
    except ValueError as problem:
        print(f"asrprune: {problem}", file=sys.stderr)
        return 2
    kept: list[Callable[[], bool]] = []
    try:
        with terminated_in_order():
            call(argv, kept)
        _flush_stdout()
    except InputError as problem:
        return _failed(argv[0], str(problem), 1)
    except (ValueError, MissingPackage) as problem:
        if os.environ.get("ASRPRUNE_TRACEBACK"):
            raise
        return _failed(argv[0], str(problem), 2)
    except BrokenPipeError:
        _forget_stdout()
        return 0
    except OSError as problem:  # no space left, no permission, ...
        if os.environ.get("ASRPRUNE_TRACEBACK"):
            raise
        where = "" if problem.filename is None else f"{problem.filename}: "
        return _failed(argv[0], f"{where}{problem.strerror or problem}", 1)
    except KeyboardInterrupt:
        return _failed(argv[0], "interrupted", 130)
    except Terminated:
        said = "; what was done so far is kept" if any(one() for one in kept) else ""
        return _failed(argv[0], f"terminated (SIGTERM){said}", 143)
    return 0


def call(argv: Sequence[str], kept: Optional[list[Callable[[], bool]]] = None) -> None:
    """Run one verb; its ``kept`` is added to the list before it starts.

    Raises InputError and OSError for bad data, ValueError and MissingPackage for bad usage.
    """
    module_name, help_line = lookup(COMMANDS, argv[0], "command")
    end_with_torchrun()
    let_waiting_threads_sleep()
    keep_few_primitives()
    module = importlib.import_module(module_name)
    parser = _Parser(
        prog=f"asrprune {argv[0]}",
        description=help_line[0].upper() + help_line[1:] + ".",
        epilog=getattr(module, "EXAMPLE", None),
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    with _told_once():
        args = parse(parser, argv[1:])
        check_options(module.MODES, parser, args)
        args.command_line = ["asrprune", *argv]
    if kept is not None and hasattr(module, "kept"):
        kept.append(functools.partial(module.kept, args))
    with locked_outputs(parser, args):
        from asrprune.cli.sharding import run_part

        if str(getattr(args, "size", "")).lower().endswith("x"):
            from asrprune.cli.engine_flags import settle_speed

            settle_speed(args)
        run_part(module.run, parser, args)


@contextlib.contextmanager
def _told_once() -> Iterator[None]:
    """Wrong usage, which all processes of one run meet alike, is told by the first."""
    try:
        yield
    except (InputError, ValueError):
        if is_first_process():
            raise
        with contextlib.suppress(Terminated):
            time.sleep(60)  # the end of any makes torchrun end all: first the one that tells
        raise SystemExit(2) from None


def _flush_stdout() -> None:
    """Raise an OSError that names standard output if what was printed cannot be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as problem:
        _forget_stdout()
        raise OSError(problem.errno, problem.strerror, "standard output") from None


def _forget_stdout() -> None:
    """Nothing is to be written at the exit any more."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _failed(verb: str, problem: str, status: int) -> int:
    print(f"asrprune {verb}: {shortened(problem, 3000)}", file=sys.stderr)
    return status


def _top_parser() -> argparse.ArgumentParser:
    verbs = "\n".join(f"  {name:<11} {text}" for name, (_, text) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="asrprune",
        usage="asrprune [-h] [--version] VERB ...",
        description="Language-model compression for speech recognition, judged end to end.",
        epilog=f"verbs, in pipeline order (asrprune VERB --help tells more):\n{verbs}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"asrprune {__version__}")
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, as other errors are."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message.removeprefix("argument "))


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults where there is one, keeps the line breaks of the example."""

    def _get_help_string(self, action: argparse.Action) -> Optional[str]:
        if action.default is None or action.default is False or action.default == []:
            return action.help
        return super()._get_help_string(action)


if __name__ == "__main__":
    sys.exit(main())
