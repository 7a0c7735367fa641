"""Flags for the options that formats declare (``OPTIONS``), shared by the verbs that read them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Optional

from asrprune.cli.modes import Mode
from asrprune.firstpass.formats.table import FORMATS, OPTIONS, Option
from asrprune.firstpass.on_bad import ON_BAD


@dataclass(frozen=True)
class FormatFlags:
    """The flags of a verb: of the formats of ``kind`` (None: of all), for reading them and, with
    ``writes``, for writing them."""

    kind: Optional[str] = None
    writes: bool = False

    def users(self) -> dict[str, list[str]]:
        """Option -> the formats that take it, for every option that some format takes."""
        formats = [entry for entry in FORMATS.values() if self.kind in (None, entry.kind)]
        users = {
            name: [
                entry.name
                for entry in formats
                if name in entry.read_options or (self.writes and name in entry.write_options)
            ]
            for name in OPTIONS
        }
        return {name: names for name, names in users.items() if names}

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add one flag an option, saying which formats take it."""
        for name, users in self.users().items():
            option = OPTIONS[name]
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                metavar=option.metavar,
                type=_parse(option),
                default=argparse.SUPPRESS,
                help=f"{option.help} ({', '.join(users)})",
            )

    def modes(
        self,
        taken: Callable[[argparse.Namespace], Collection[str]],
        otherwise: str,
        inside: Optional[Mode] = None,
    ) -> tuple[Mode, ...]:
        """One mode a flag: the calls whose formats take its option.

        ``taken(args)``: the options that they take; ``otherwise`` and ``inside`` as in Mode.
        """

        def takes(name: str) -> Callable[[argparse.Namespace], bool]:
            return lambda args: name in taken(args)

        return tuple(Mode((name,), takes(name), otherwise, inside) for name in self.users())


def _parse(option: Option) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return option.parse(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}; expected the {option.help}") from None

    return parse


def add_on_bad_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--on-bad``; ``OnBad(args.on_bad)`` is the policy."""
    parser.add_argument(
        "--on-bad",
        choices=ON_BAD,
        default=ON_BAD[0],
        help="an utterance without a hypothesis or a path: refuse, leave out, or take what the "
        "first pass says (the empty hypothesis)",
    )


def on_lattices(args: argparse.Namespace) -> bool:
    """Whether the call has --lattice and not --nbest.

    Raises ValueError for both or none of them, and for lattices without --format.
    """
    if (args.nbest is None) == (args.lattice is None):
        raise ValueError("one of --nbest and --lattice; found both or none")
    if args.lattice is not None and args.format is None:
        raise ValueError("--lattice needs --format")
    return args.lattice is not None


def format_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options that the command line states, by name."""
    return {name: getattr(args, name) for name in OPTIONS if hasattr(args, name)}
