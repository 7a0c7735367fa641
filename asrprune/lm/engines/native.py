"""The C++ kernels as shared libraries: compiled once on each machine, for that machine.

A kernel is built with the machine's own C++ compiler and vector instructions at its first use and
kept in the user's cache folder (cache.py). Where that is not for this user alone, it is built in a
temporary folder at every start. Where there is no compiler, or it fails, there is no kernel and
torch computes what the kernel would have.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from asrprune.lm.engines.cache import open_to_others, private_cache, private_temporary

FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-pthread", "-Wno-psabi")
COMPILERS = ("c++", "g++", "clang++")
_BUILD_LIMIT_S = 300
_UNFINISHED = ".building-"

log = logging.getLogger(__name__)


@functools.cache
def load_library(source: Path, without: str) -> Optional[ctypes.CDLL]:
    """The library of a C++ file, built if it is not there yet.

    None, with one line in the log, where it cannot be: ``without`` says what that means. The
    compiler is $CXX, or the first of COMPILERS on the PATH.
    """
    try:
        with _folder() as folder:
            return ctypes.CDLL(str(build(source, folder)))
    except (OSError, subprocess.SubprocessError) as problem:
        log.warning("no %s kernel, so %s: %s", source.parent.name, without, problem)
        return None


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """The cache, or a private folder that goes once the library is loaded.

    Raises PermissionError where others could change temporary folders too.
    """
    kept = private_cache()
    if kept is not None:
        yield kept
        return
    with private_temporary() as folder:
        yield folder


def build(source: Path, folder: Path) -> Path:
    """The library for ``source``, compiler and processor in ``folder``; compiled if missing, or if
    others can write it.

    It is written under a temporary name and renamed, so that processes that build it at the same
    time do each other no harm. Raises OSError without a compiler or a folder that takes files,
    SubprocessError, with the compiler's last line, when it fails.
    """
    compiler = cpp_compiler()
    if compiler is None:
        raise FileNotFoundError(f"no C++ compiler ({', '.join(COMPILERS)}, or set CXX)")
    library = folder / f"{source.parent.name}_{source.stem}-{_key(source, compiler)}.so"
    if library.is_file():
        reason = "a link" if library.is_symlink() else open_to_others(library)
        if not reason:
            return library
        log.warning("%s is compiled anew: %s", library, reason)
    folder.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(folder)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder) as made:
        out = Path(made) / library.name
        _run([*compiler.split(), *FLAGS, str(source), "-o", str(out)])
        out.chmod(0o700)
        os.replace(out, library)
    log.info("%s %s built by %s: %s", source.parent.name, source.stem, compiler, library)
    return library


def _remove_unfinished(folder: Path) -> None:
    """Remove what builds that were killed have left."""
    for place in folder.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(FileNotFoundError):  # another process has just done so
            if time.time() - place.stat().st_mtime > 2 * _BUILD_LIMIT_S:
                shutil.rmtree(place)


def _key(source: Path, compiler: str) -> str:
    """A hash of everything that decides what the library holds."""
    version = _run([*compiler.split(), "--version"])
    texts = [path.read_text() for path in (source, *sorted(source.parent.glob("*.h")))]
    parts = (*texts, " ".join(FLAGS), compiler, version, processor())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def cpp_compiler() -> Optional[str]:
    """$CXX, or the first of COMPILERS on the PATH; None without one."""
    return os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)


def processor() -> str:
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
