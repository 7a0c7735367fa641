"""What asks a verb to end ends it, whatever a library makes of it."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from asrprune.cli import lmscore, rescore, train
from asrprune.cli.interrupts import Terminated, terminated_in_order
from asrprune.cli.main import main

ENDS = [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)]


def asked(number: signal.Signals) -> None:
    """The signal, within a library that makes an error of its own of whatever comes."""
    try:
        signal.raise_signal(number)
    except BaseException:
        raise RuntimeError("unexpected pos 8064 vs 7958") from None


@pytest.mark.parametrize(("number", "raised"), ENDS)
def test_a_library_does_not_hide_it(number: signal.Signals, raised: type[BaseException]) -> None:
    before = signal.getsignal(number)
    with pytest.raises(raised), terminated_in_order():
        asked(number)
    assert signal.getsignal(number) is before


def test_errors_stay_errors() -> None:
    with pytest.raises(ZeroDivisionError), terminated_in_order():
        raise ZeroDivisionError


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_handling_of_a_callers_own_stays(number: signal.Signals) -> None:
    met = []
    before = signal.signal(number, lambda *_: met.append(number))
    try:
        with terminated_in_order():
            signal.raise_signal(number)
        assert met == [number]
    finally:
        signal.signal(number, before)


def test_beside_the_main_thread_nothing_is_handled() -> None:
    found = []

    def run() -> None:
        with terminated_in_order():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


CALLS = {
    "rescore": (rescore, ("--lattice", "x", "--format", "slf", "--lm", "y", "--weights", "z")),
    "lmscore": (lmscore, ("--lm", "y", "--nbest", "x")),
    "train": (train, ("--data", "x")),
}


@pytest.mark.parametrize(
    ("verb", "file", "text", "kept"),
    [
        ("rescore", "out.partial", "settings\nscores\n", False),
        ("lmscore", "out.partial", "settings\nscores\n", True),
        ("lmscore", "out.partial", "settings\n", False),
        ("lmscore", None, "", False),
        ("train", "out.training/run.json", "{}", False),
        ("train", "out.training/state.pt", "state", True),
    ],
)
def test_only_what_is_kept_is_said_to_be(
    verb: str,
    file: str | None,
    text: str,
    kept: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(args: Any) -> None:
        if file is not None:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_text(text)
        asked(signal.SIGTERM)

    module, words = CALLS[verb]
    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr("asrprune.cli.main.check_options", lambda *_: None)
    assert main([verb, *words, "--out", str(tmp_path / "out")]) == 143
    said = "; what was done so far is kept" if kept else ""
    assert (
        capsys.readouterr().err.splitlines()[-1] == f"asrprune {verb}: terminated (SIGTERM){said}"
    )
