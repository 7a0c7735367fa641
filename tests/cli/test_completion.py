"""The script of ``asrprune completion``, as bash runs it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from asrprune.cli.completion import script
from asrprune.cli.main import COMMANDS, main


@pytest.fixture(scope="module", name="completed")
def _completed():
    """A function from the words on a command line to what bash offers for the last of them."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    text = script()

    def complete(*words):
        quoted = " ".join(f"'{word}'" for word in ("asrprune", *words))
        asked = (
            f'COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _asrprune; echo "${{COMPREPLY[*]}}"'
        )
        done = subprocess.run(
            [bash, "-uc", f"{text}\n{asked}"], capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        return done.stdout.split()

    return complete


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("to",), ["tokenize"]),
        (("tune", "--fall"), ["--fallback"]),
        (("tune", "--objective", ""), ["expected", "errors"]),
        (("tune", "--objective", "er"), ["errors"]),
        (("prune", "--schedule", "c"), ["cubic"]),
        (("completion", "z"), ["zsh"]),
        (("tune", "--ref", ""), []),  # bash goes on with the names of files
        (("nothing", "--"), []),
    ],
)
def test_bash_completes(completed, words, expected):
    assert completed(*words) == expected


def test_every_verb_is_offered(completed):
    assert completed("") == list(COMMANDS)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_command_prints_it(shell, capsys):
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert out.endswith(script())
    assert ("bashcompinit" in out) == (shell == "zsh")
