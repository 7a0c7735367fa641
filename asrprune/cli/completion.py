"""``asrprune completion``: a script with which a shell completes verbs, options and choices."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Iterable

from asrprune.cli.modes import Mode

EXAMPLE = """example:
  asrprune completion bash

The script belongs into ~/.local/share/bash-completion/completions/asrprune, or ~/.zshrc."""

MODES = (Mode(("shell",)),)

SHELLS = {
    "bash": "",
    "zsh": "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n",
}
"""Shell -> what it needs before the script, which is bash's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the argument."""
    parser.add_argument("shell", metavar="SHELL", choices=list(SHELLS), help="bash or zsh")


def run(args: argparse.Namespace) -> None:
    """Print the script."""
    sys.stdout.write(SHELLS[args.shell] + script())


def script() -> str:
    """The script of bash, made of the parsers of all verbs; a place without choices gets files."""
    from asrprune.cli.main import COMMANDS

    choices, options = [], []
    for verb, (module, _) in COMMANDS.items():
        parser = argparse.ArgumentParser()
        importlib.import_module(module).add_arguments(parser)
        flags: list[str] = []
        for action in parser._actions:
            flags += action.option_strings
            if action.choices is not None:
                values = _words(map(str, action.choices))
                places = action.option_strings or [verb]
                choices += [f'    "{verb} {place}") words={values} ;;\n' for place in places]
        options.append(f"    {verb}) words={_words(flags)} ;;\n")
    return (
        "_asrprune() {\n"
        "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=\n"
        "  if [ $COMP_CWORD -eq 1 ]; then\n"
        f"    words={_words(COMMANDS)}\n"
        '  elif [[ $word == -* ]]; then\n    case "${COMP_WORDS[1]}" in\n'
        f"{''.join(options)}    esac\n"
        '  else\n    case "${COMP_WORDS[1]} $before" in\n'
        f"{''.join(choices)}    esac\n  fi\n"
        '  COMPREPLY=($(compgen -W "$words" -- "$word"))\n'
        "}\n"
        "complete -o default -F _asrprune asrprune\n"
    )


def _words(names: Iterable[str]) -> str:
    return shlex.quote(" ".join(names))
