"""The command itself: help, statuses, start-up."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from asrprune.cli.main import COMMANDS, main


def test_no_verb_prints_help_and_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "first-pass" in capsys.readouterr().err


def test_unknown_verb_names_the_closest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rescor"]) == 2
    assert "did you mean 'rescore'" in capsys.readouterr().err


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: asrprune {verb}" in shown
    assert f"asrprune {verb}" in importlib.import_module(COMMANDS[verb][0]).EXAMPLE


@pytest.mark.parametrize("verb", COMMANDS)
def test_unknown_flag_is_a_usage_error(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--no-such-flag-exists"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"asrprune {verb}: ")
    assert error.count("\n") == 1


def test_what_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(args: object) -> None:
        raise OSError(28, "No space left on device", "exp/hyp")

    monkeypatch.setattr("asrprune.cli.list.run", full)
    assert main(["list"]) == 1
    assert capsys.readouterr().err == "asrprune list: exp/hyp: No space left on device\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from asrprune.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'jiwer', 'sentencepiece', 'lhotse'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_module_runs_as_the_command() -> None:
    command = [sys.executable, "-m", "asrprune", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("asrprune ")


def test_missing_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "nothing"
    assert main(["wer", "--ref", str(missing), "--hyp", str(missing)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"asrprune wer: {missing}: no such file; expected an existing file\n"
