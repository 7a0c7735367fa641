"""Which options have an effect in a call: a verb declares its modes, any other option is refused.

A verb's ``MODES`` name all of its options. An option that stands on the command line, be it with
the value of its default, must be read by a mode that the call is in.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional


def _always(args: argparse.Namespace) -> bool:
    return True


@dataclass(frozen=True)
class Mode:
    """What a call may be: ``reads`` are the options, by their names in the parsed arguments, that
    have an effect in it. A call is in the mode if ``active`` and if it is in the mode ``inside``.

    ``otherwise`` says why an option has no effect outside, as "--option ..." goes on; {name} in it
    stands for the value of an option.
    """

    reads: tuple[str, ...]
    active: Callable[[argparse.Namespace], bool] = _always
    otherwise: str = ""
    inside: Optional[Mode] = None

    def holds(self, args: argparse.Namespace) -> bool:
        """Whether the call is in this mode."""
        return (self.inside is None or self.inside.holds(args)) and self.active(args)

    @property
    def unconditional(self) -> bool:
        """Whether every call is in this mode."""
        return self.active is _always and (self.inside is None or self.inside.unconditional)

    def refusal(self, args: argparse.Namespace) -> str:
        """Why the call is not in this mode: the outermost reason."""
        if self.inside is not None and not self.inside.holds(args):
            return self.inside.refusal(args)
        return self.otherwise.format(**vars(args))


def options(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Name in the parsed arguments -> name on the command line, of every option and argument."""
    return {
        action.dest: action.option_strings[0] if action.option_strings else str(action.metavar)
        for action in parser._actions
        if action.dest != "help"
    }


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """The parsed arguments; ``given`` in them holds the names of those that ``argv`` states.

    argparse does not tell a stated value from the same one as the default, so everything is parsed
    once more without defaults. The parser has none afterwards.
    """
    args = parser.parse_args(argv)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    args.given = frozenset(vars(parser.parse_args(argv)))
    return args


def check_options(
    modes: Sequence[Mode], parser: argparse.ArgumentParser, args: argparse.Namespace
) -> None:
    """Raise ValueError for an option that was given without an effect, or with an empty value."""
    for name, flag in options(parser).items():
        if name not in args.given:
            continue
        if _is_empty(vars(args)[name]):
            raise ValueError(f"{flag} is empty; expected a value")
        readers = [mode for mode in modes if name in mode.reads]
        if not any(mode.holds(args) for mode in readers):
            raise ValueError(f"{flag} {readers[0].refusal(args)}")


def _is_empty(value: Any) -> bool:
    return value == "" or (isinstance(value, list) and "" in value)
