"""The C++ kernels as shared libraries: compiled once on each machine, for that machine.

A kernel is built with the machine's own C++ compiler and vector instructions at its first use and
kept in the user's cache folder ($XDG_CACHE_HOME/asrprune, else ~/.cache/asrprune). Where there is
no compiler, or it fails, there is no kernel and torch computes what the kernel would have.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Optional

FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-pthread", "-Wno-psabi")
COMPILERS = ("c++", "g++", "clang++")
_BUILD_LIMIT_S = 300

log = logging.getLogger(__name__)


@functools.cache
def load_library(source: Path, without: str) -> Optional[ctypes.CDLL]:
    """The library of a C++ file, built if it is not there yet.

    None, with one line in the log, where it cannot be: ``without`` says what that means. The
    compiler is $CXX, or the first of COMPILERS on the PATH.
    """
    try:
        return ctypes.CDLL(str(build(source, cache_folder())))
    except (OSError, subprocess.SubprocessError) as problem:
        log.warning("no %s kernel, so %s: %s", source.parent.name, without, problem)
        return None


def cache_folder() -> Path:
    """Where built libraries are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "asrprune"


def build(source: Path, folder: Path) -> Path:
    """The library for ``source``, compiler and processor in ``folder``; compiled if missing.

    It is written under a temporary name and renamed, so that processes that build it at the same
    time do each other no harm. Raises OSError without a compiler or a folder that takes files,
    SubprocessError, with the compiler's last line, when it fails.
    """
    compiler = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise FileNotFoundError(f"no C++ compiler ({', '.join(COMPILERS)}, or set CXX)")
    library = folder / f"{source.parent.name}_{source.stem}-{_key(source, compiler)}.so"
    if library.is_file():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        out = Path(made) / library.name
        _run([*compiler.split(), *FLAGS, str(source), "-o", str(out)])
        os.replace(out, library)
    log.info("%s %s built by %s: %s", source.parent.name, source.stem, compiler, library)
    return library


def _key(source: Path, compiler: str) -> str:
    """A hash of everything that decides what the library holds."""
    version = _run([*compiler.split(), "--version"])
    parts = (source.read_text(), " ".join(FLAGS), compiler, version, _processor())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """The processor's name and instruction sets: a cache folder may be shared by machines."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    lines = info.read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    return "\n".join(line for line in lines if line.startswith(wanted))


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_LIMIT_S)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise subprocess.SubprocessError(f"{' '.join(command)}: {last}")
    return done.stdout
