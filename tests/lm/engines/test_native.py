"""C++ kernels: built once, with the compiler's own words where that fails."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from asrprune.lm.engines import native
from asrprune.lm.engines.fused.packed import KERNEL
from asrprune.lm.engines.native import build, load_library

SOURCES = sorted(Path(native.__file__).parent.rglob("*.cpp"))

needs_compiler = pytest.mark.skipif(
    load_library(KERNEL, "no test") is None, reason="no C++ compiler here"
)


@pytest.fixture
def no_library_yet():
    load_library.cache_clear()
    yield
    load_library.cache_clear()


@pytest.mark.usefixtures("no_library_yet")
def test_a_compiler_that_fails_is_quoted(monkeypatch, caplog, tmp_path):
    broken = tmp_path / "broken"
    broken.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "no such header" >&2\nexit 1'
    )
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with caplog.at_level(logging.INFO):
        assert load_library(KERNEL, "something else computes") is None
    assert caplog.text.count("no fused kernel, so something else computes") == 1
    assert "no such header" in caplog.text
    assert list((tmp_path / "cache/asrprune/compiled").iterdir()) == []
    with pytest.raises(subprocess.SubprocessError, match="no such header"):
        build(SOURCES[0], tmp_path)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.parent.name)
def test_a_library_is_built_once_a_source(source, tmp_path):
    first = build(source, tmp_path)
    made = first.stat().st_mtime_ns
    assert build(source, tmp_path) == first
    assert first.stat().st_mtime_ns == made
    parts = [source, *source.parent.glob("*.h")]
    for part in parts:
        shutil.copy(part, tmp_path)
    copied = tmp_path / source.name
    known = {first, build(copied, tmp_path)}
    for part in parts[:2]:
        copy = tmp_path / part.name
        copy.write_text(copy.read_text() + "\n// changed\n")
        made = build(copied, tmp_path)
        assert made not in known
        known.add(made)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.parent.name)
def test_a_kernel_compiles_without_warnings(source, monkeypatch, tmp_path):
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-Wall", "-Wextra", "-Werror"))
    assert build(source, tmp_path).is_file()


def planted(path: Path) -> None:
    """A library that is no library."""
    path.write_bytes(b"\x7fELF planted")
    path.chmod(0o700)


@pytest.mark.usefixtures("no_library_yet")
@pytest.mark.parametrize("way", ["a group", "all", "a link", "none"])
def test_a_library_that_others_could_write_is_compiled_anew(way, monkeypatch, caplog, tmp_path):
    compiler = tmp_path / "compiler"
    write = '[ "$last" = --version ] || echo built >"$last"'
    compiler.write_text(f"#!/bin/sh\nfor last; do :; done\n{write}")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    folder = tmp_path / "cache"
    library = build(SOURCES[0], folder)
    assert library.read_text() == "built\n"
    assert stat.S_IMODE(library.stat().st_mode) == 0o700
    library.unlink()
    planted(library)
    if way == "a group":
        os.chown(library, -1, 12345) if os.getuid() == 0 else pytest.skip("not root")
        library.chmod(0o770)
    elif way == "all":
        library.chmod(0o706)
    elif way == "a link":
        planted(tmp_path / "elsewhere")
        library.unlink()
        library.symlink_to(tmp_path / "elsewhere")
    (folder / ".building-killed").mkdir()
    os.utime(folder / ".building-killed", (0, 0))
    assert build(SOURCES[0], folder) == library
    assert (library.read_bytes() == b"built\n") == (way != "none")
    assert ("compiled anew" in caplog.text) == (way != "none")
    assert [path.name for path in folder.glob(".b*")] == ([".building-killed"] * (way == "none"))


@pytest.mark.slow
@needs_compiler
@pytest.mark.usefixtures("no_library_yet")
def test_without_a_private_cache_a_library_is_built_for_this_run(monkeypatch, caplog, tmp_path):
    shared, temporary = tmp_path / "shared", tmp_path / "temporary"
    for folder in (shared, temporary):
        folder.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    source = next(path for path in SOURCES if path.parent.name == "sparse")
    assert load_library(source, "nothing") is not None
    assert caplog.text.count("compiled code is not kept for the next start") == 1
    assert f"{shared} can be written by all" in caplog.text
    assert not any(shared.rglob("*.so"))
    assert not any(temporary.iterdir())
    load_library.cache_clear()
    temporary.chmod(0o777)
    assert load_library(source, "nothing") is None
    assert f"so nothing: {temporary} can be written by all" in caplog.text
    assert not any(temporary.iterdir())
