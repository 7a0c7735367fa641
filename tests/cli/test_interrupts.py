"""What asks a verb to end ends it, whatever a library makes of it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import asrprune
from asrprune.cli import lmscore, rescore, train
from asrprune.cli.interrupts import Terminated, terminated_in_order
from asrprune.cli.main import main
from tests.living import lives
from tests.small_inputs import save_small_inputs

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


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "asrprune", *sys.argv[1:]])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_one_of_torchruns_processes_does_not_outlive_it(tmp_path: Path) -> None:
    """It waits for a first process that never answers."""
    data = save_small_inputs(tmp_path)["data"]
    (tmp_path / "train.json").write_text("{}")
    call = ["train", "--data", data, "--config", tmp_path / "train.json", "--out", tmp_path / "out"]
    with socket.create_server(("localhost", 0)) as first:
        first.settimeout(60.0)
        port = str(first.getsockname()[1])
        group = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
        path = {"PYTHONPATH": str(Path(asrprune.__file__).parents[1])}
        with subprocess.Popen(
            [sys.executable, "-c", PARENT, *map(str, call)],
            env={**os.environ, **path, **group, "TORCHELASTIC_RUN_ID": "none"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as torchrun:
            assert torchrun.stdout is not None
            child = int(torchrun.stdout.readline())
            try:
                with first.accept()[0]:
                    assert lives(child)
                    torchrun.kill()
                    end = time.monotonic() + 20.0
                    while lives(child) and time.monotonic() < end:
                        time.sleep(0.1)
                    assert not lives(child)
            finally:
                torchrun.kill()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
