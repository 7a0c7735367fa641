"""Folders that pass: none is left by a killed process, none is taken from a living one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import asrprune
from asrprune.files import passing_folder

SCRIPT = """
import sys, time
from asrprune.files import passing_folder
with passing_folder(sys.argv[1]) as folder:
    (folder / "copy.arpa").write_text("a copy")
    print("made", flush=True)
    time.sleep(600)
"""


def age(folder: Path) -> None:
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))


def test_it_is_private_and_passes(tmp_path: Path) -> None:
    with passing_folder(tmp_path) as folder:
        assert folder.parent == tmp_path.resolve()
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "deep").mkdir()
        (folder / "deep" / "file").touch()
    with pytest.raises(KeyError), passing_folder(tmp_path):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_goes_and_what_lives_stays(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(asrprune.__file__).parents[1])}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "made\n"
        age(tmp_path)
        with passing_folder(tmp_path):
            assert len(list(tmp_path.iterdir())) == 2
        run.kill()
    assert len(list(tmp_path.iterdir())) == 1
    age(tmp_path)
    with passing_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").touch()
    (tmp_path / "asrprune-passing-link").symlink_to(tmp_path / "far")
    (tmp_path / "asrprune-passing-file").touch()
    (tmp_path / "asrprune-passing-young").mkdir()
    with passing_folder(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "asrprune-passing-file",
        "asrprune-passing-link",
        "asrprune-passing-young",
        "far",
        "file",
    ]
