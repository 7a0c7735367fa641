"""Processes of a pool: none outlives its parent, none is missed, none says more than it must."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import asrprune
from asrprune.core.processes import in_processes
from asrprune.errors import InputError, MissingPackage
from tests.living import lives

pytestmark = pytest.mark.slow  # spawns

SCRIPT = """
import ctypes, os, sys, time
from pathlib import Path
from asrprune.core.processes import in_processes

folder, kind = Path(sys.argv[1]), sys.argv[2]

def start():
    pass

def work(item):
    (folder / f"{os.getpid()}.pid").touch()
    if kind == "python":
        time.sleep(600)
    ctypes.PyDLL(None).sleep(600)  # holds the lock of the interpreter

if __name__ == "__main__":
    try:
        for _ in in_processes(work, range(8), 2, start, (), "here"):
            pass
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
"""


@pytest.fixture(autouse=True)
def found_by_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions below are found in the processes, also where the tests run from elsewhere."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2])])


def nothing() -> None:
    pass


def refuse(what: str) -> None:
    raise MissingPackage(what, "mini")


def double(item: int) -> int:
    if item == 13:
        raise InputError("cuts", item, "unlucky", "another")
    if item < 0:
        os.kill(os.getpid(), -item)
    if item == 99:
        os._exit(3)
    return 2 * item


def test_results_and_errors_of_work_and_start() -> None:
    assert sorted(in_processes(double, range(5), 2, nothing, (), "out")) == [0, 2, 4, 6, 8]
    with pytest.raises(InputError, match="cuts:13: unlucky; expected another"):
        list(in_processes(double, [1, 13], 2, nothing, (), "out"))
    with pytest.raises(MissingPackage, match="the Python package that"):
        list(in_processes(double, [1], 2, refuse, ("that",), "out"))


@pytest.mark.parametrize(
    ("item", "found"),
    [
        (-signal.SIGKILL, "died of SIGKILL, as one does when memory runs out"),
        (-signal.SIGSEGV, "died of SIGSEGV"),
        (99, "ended with status 3"),
    ],
)
def test_a_process_that_dies_is_one_line(item: int, found: str) -> None:
    message = f"out: a process that was started for it {found}; expected it to live; the same comm"
    with pytest.raises(InputError, match=message):
        list(in_processes(double, [1, item, 2, 3], 2, nothing, (), "out"))


def test_a_process_that_is_interrupted_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(in_processes(double, [1, -signal.SIGINT], 2, nothing, (), "out"))


def started(folder: Path, kind: str) -> tuple[subprocess.Popen[str], list[int]]:
    """A process of a group of its own, and those that it started."""
    (folder / "script.py").write_text(SCRIPT)
    run = subprocess.Popen(
        [sys.executable, str(folder / "script.py"), str(folder), kind],
        env={**os.environ, "PYTHONPATH": str(Path(asrprune.__file__).parents[1])},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: len(list(folder.glob("*.pid"))) == 2 or run.poll() is not None)
    assert run.poll() is None
    return run, [int(path.stem) for path in folder.glob("*.pid")]


def until(holds: object) -> None:
    for _ in range(3000):
        if holds():  # type: ignore[operator]
            return
        time.sleep(0.02)
    pytest.fail("it has not come to that in a minute")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("kind", ["python", "c"])
def test_they_die_with_a_parent_that_is_killed(kind: str, tmp_path: Path) -> None:
    run, pids = started(tmp_path, kind)
    run.kill()
    run.communicate()
    until(lambda: not any(map(lives, pids)))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("kind", ["python", "c"])
def test_an_interrupt_of_the_group_is_one_line(kind: str, tmp_path: Path) -> None:
    run, pids = started(tmp_path, kind)
    os.killpg(run.pid, signal.SIGINT)
    _, error = run.communicate(timeout=60)
    assert (run.returncode, error) == (130, "interrupted\n")
    assert not any(map(lives, pids))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_an_interrupt_of_the_parent_alone_ends_them(tmp_path: Path) -> None:
    run, pids = started(tmp_path, "python")
    os.kill(run.pid, signal.SIGINT)
    _, error = run.communicate(timeout=60)
    assert (run.returncode, error) == (130, "interrupted\n")
    assert not any(map(lives, pids))
