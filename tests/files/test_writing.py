"""Output that is whole or absent, whatever its place is and however writing it ends."""

from __future__ import annotations

import os
import resource
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from asrprune.errors import InputError
from asrprune.files import (
    is_stream,
    open_binary,
    read_lines,
    write_binary,
    write_folder,
    write_json,
    write_packed,
    write_text,
)


def test_failed_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    for writer in (write_text, write_binary):
        with pytest.raises(RuntimeError, match="stop"), writer(path):
            raise RuntimeError("stop")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_what_is_packed_is_read_again_and_has_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in ("one", "two")]
    for path in paths:
        with write_text(path) as stream:
            stream.writelines(f"línea {number}\n" for number in range(9000))
    assert [line for _, line in read_lines(paths[0])] == [f"línea {n}" for n in range(9000)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].stat().st_size < 50000
    with write_packed(tmp_path / f"bytes{suffix}") as binary:
        binary.write(b"\0\xff")
    with open_binary(tmp_path / f"bytes{suffix}") as read:
        assert read.read() == b"\0\xff"


def _fail_within(path: Path) -> None:
    with write_folder(path) as folder:
        (folder / "third").write_text("x")
        raise RuntimeError("stop")


def test_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for name in ("first", "second"):
        with write_folder(path) as folder:
            (folder / name).write_text(name)
    assert [entry.name for entry in path.iterdir()] == ["second"]
    with pytest.raises(RuntimeError, match="stop"):
        _fail_within(path)
    assert [entry.name for entry in path.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("old")
    (tmp_path / "file").symlink_to(Path("real") / "file")
    (tmp_path / "folder").symlink_to(tmp_path / "real" / "folder")  # of nothing yet
    with write_text(tmp_path / "file") as stream:
        stream.write("new")
    for name in ("first", "second"):
        with write_folder(tmp_path / "folder") as folder:
            (folder / name).touch()
    assert (tmp_path / "file").is_symlink()
    assert (tmp_path / "folder").is_symlink()
    assert (tmp_path / "real" / "file").read_text() == "new"
    assert os.listdir(tmp_path / "real" / "folder") == ["second"]
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "real"]
    assert sorted(os.listdir(tmp_path / "real")) == ["file", "folder"]


def test_a_pipe_and_a_device_are_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_json(pipe, [1])
    reader.join()
    assert read == ["[\n  1\n]\n"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    write_json("/dev/null", [1])
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_an_open_file_goes_on_where_it_is(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb", buffering=0) as log:
        log.write(b"before\n")
        place = f"/dev/fd/{log.fileno()}"
        assert is_stream(place)
        for text in ("one\n", "two\n"):
            with write_text(place) as stream:
                stream.write(text)
        log.write(b"after\n")
    assert (tmp_path / "log").read_text() == "before\none\ntwo\nafter\n"


@pytest.fixture(name="full_disk")
def _full_disk() -> Iterator[None]:
    """No file may grow beyond 4,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("what", ["text", "gz", "xz", "archive", "folder", "below"])
def test_a_full_disk_names_the_output_and_leaves_the_old_one(tmp_path: Path, what: str) -> None:
    place = tmp_path / (f"out.{what}" if what in ("gz", "xz") else "out")
    folder = what in ("folder", "below")
    if folder:
        place.mkdir()
    (place / "old" if folder else place).write_text("old")
    with pytest.raises(OSError, match="File too large") as found:
        _fill(place, what)
    assert found.value.filename == str(place / "sub" / "file" if what == "below" else place)
    assert os.listdir(tmp_path) == [place.name]
    assert (place / "old" if folder else place).read_text() == "old"


def _fill(place: Path, what: str) -> None:
    lines = "".join(f"{number} {number * number}\n" for number in range(9000))
    if what in ("text", "gz", "xz"):
        with write_text(place) as stream:
            stream.write(lines)
    elif what == "archive":  # torch makes a RuntimeError of it
        with write_binary(place) as binary:
            torch.save({"x": torch.zeros(9000)}, binary)
    else:
        with write_folder(place) as folder:
            if what == "folder":
                (folder / "file").write_text(lines)
            with write_text(folder / "sub" / "file") as stream:
                stream.write(lines)


def test_names_of_every_legal_length(tmp_path: Path) -> None:
    for length in (240, 255):
        write_json(tmp_path / ("n" * length), 1)
        with write_folder(tmp_path / ("f" * length)):
            pass
    assert sorted(len(name) for name in os.listdir(tmp_path)) == [240, 240, 255, 255]
    with pytest.raises(OSError, match="name too long") as found:
        write_json(tmp_path / ("é" * 128), 1)
    assert found.value.filename == str(tmp_path / ("é" * 128))


def test_an_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((OSError, InputError)):
        write_json(tmp_path / "file" / "out", 1)
