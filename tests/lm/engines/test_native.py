"""C++ kernels: built once, with the compiler's own words where that fails."""

from __future__ import annotations

import logging
import stat
import subprocess
from pathlib import Path

import pytest

from asrprune.lm.engines import native
from asrprune.lm.engines.int8.packed import KERNEL
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
    assert caplog.text.count("no int8 kernel, so something else computes") == 1
    assert "no such header" in caplog.text
    assert list((tmp_path / "cache" / "asrprune").iterdir()) == []
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
    other = tmp_path / source.name
    other.write_text(source.read_text() + "\n// changed\n")
    assert build(other, tmp_path) != first


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.parent.name)
def test_a_kernel_compiles_without_warnings(source, monkeypatch, tmp_path):
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-Wall", "-Wextra", "-Werror"))
    assert build(source, tmp_path).is_file()
