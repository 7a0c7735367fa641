"""One process at an output; what a killed one left is put right."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asrprune.errors import InputError
from asrprune.files import locked, write_folder, write_json, write_text

HOLDER = (
    "import sys, time\n"
    "from asrprune.files import locked\n"
    "with locked(sys.argv[1]):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(60)\n"
)


@contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds ``path``."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_stops_with_one_line_and_writes_nothing(tmp_path: Path) -> None:
    out, link = tmp_path / "out", tmp_path / "link"
    link.symlink_to(out)
    with another_process(out) as process:
        found = f"process {process.pid} on .* is writing it; expected one process at a time"
        for path in (out, link):
            with pytest.raises(InputError, match=found):
                write_json(path, 1)
            with pytest.raises(InputError, match=found), write_folder(path):
                pytest.fail("it does not come so far")
        write_json(tmp_path / "beside", 1)
    assert not out.exists()
    write_json(out, 1)
    assert sorted(os.listdir(tmp_path)) == ["beside", "link", "out"]


def test_it_is_held_again_by_its_own_process_and_below(tmp_path: Path) -> None:
    with locked(tmp_path / "out"):
        with locked(tmp_path / "out"):
            write_json(tmp_path / "out" / "file", 1)
        assert os.listdir(tmp_path / "out") == ["file"]
        assert sorted(os.listdir(tmp_path)) == [".out.lock", "out"]
        child = os.fork()  # another process
        if child == 0:
            status = 1
            try:
                write_json(tmp_path / "out", 1)
            except InputError:
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0  # not that of another test's child
    assert os.listdir(tmp_path) == ["out"]


def test_parents_are_made_and_those_left_empty_go(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b" / "out"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not os.listdir(tmp_path)
    write_json(tmp_path / "a" / "b" / "out", 1)
    assert os.listdir(tmp_path / "a" / "b") == ["out"]


def _replace_a_folder_until_killed(out: Path, renames: int) -> None:
    """Replace ``out`` by a new folder in a process that is killed at its rename of that number."""
    replace, calls = os.replace, 0

    def die(source: str, target: str) -> None:
        nonlocal calls
        calls += 1
        if calls == renames:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    child = os.fork()
    if child == 0:
        try:
            os.replace = die  # type: ignore[assignment]
            with write_folder(out) as folder:
                (folder / "new").touch()
            die("", "")
        finally:  # never on as another pytest
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


@pytest.mark.parametrize(("renames", "kept"), [(1, "old"), (2, "old"), (3, "new")])
def test_what_a_killed_process_left_is_put_right(tmp_path: Path, renames: int, kept: str) -> None:
    out = tmp_path / "out"
    with write_folder(out) as folder:
        (folder / "old").touch()
    _replace_a_folder_until_killed(out, renames)
    with locked(out):
        assert os.listdir(out) == [kept]
    assert os.listdir(tmp_path) == ["out"]


def test_where_there_are_no_locks_it_goes_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with write_text(tmp_path / "out") as stream:
        stream.write("x")
    assert os.listdir(tmp_path) == ["out"]
    assert "no locks here" in caplog.text
