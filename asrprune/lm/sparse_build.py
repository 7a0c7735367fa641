"""The sparse kernel as a shared library: compiled once on each machine, for that machine.

sparse_kernel.cpp is built with the machine's own C++ compiler and vector instructions at its first
use and kept in the user's cache folder ($XDG_CACHE_HOME/asrprune, else ~/.cache/asrprune). Where
there is no compiler, or it fails, there is no kernel and the torch matrices stay as they are.
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
from typing import Any, Optional

import torch

SOURCE = Path(__file__).with_name("sparse_kernel.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-pthread")
COMPILERS = ("c++", "g++", "clang++")
_BUILD_LIMIT_S = 300

log = logging.getLogger(__name__)


@functools.lru_cache(maxsize=1)
def load_kernel() -> Optional[ctypes.CDLL]:
    """The library, built if it is not there yet; None, with one line in the log, without one.

    Its functions are declared. The compiler is $CXX, or the first of COMPILERS on the PATH.
    """
    try:
        library = ctypes.CDLL(str(build(cache_folder())))
    except (OSError, subprocess.SubprocessError) as problem:
        log.warning("no sparse kernel, so torch multiplies by the zeros too: %s", problem)
        return None
    library.asrprune_sparse_linear.argtypes = _arguments()
    library.asrprune_sparse_linear.restype = ctypes.c_int
    library.asrprune_sparse_lanes.restype = ctypes.c_int
    return library


def cache_folder() -> Path:
    """Where built libraries are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "asrprune"


def build(folder: Path) -> Path:
    """The library for this source, compiler and processor in ``folder``; compiled if missing.

    It is written under a temporary name and renamed, so that processes that build it at the same
    time do each other no harm. Raises OSError without a compiler or a folder that takes files,
    SubprocessError, with the compiler's last line, when it fails.
    """
    compiler = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise FileNotFoundError(f"no C++ compiler ({', '.join(COMPILERS)}, or set CXX)")
    library = folder / f"sparse_kernel-{_key(compiler)}.so"
    if library.is_file():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        out = Path(made) / library.name
        _run([*compiler.split(), *FLAGS, str(SOURCE), "-o", str(out)])
        os.replace(out, library)
    log.info("sparse kernel built by %s: %s", compiler, library)
    return library


def _key(compiler: str) -> str:
    """A hash of everything that decides what the library holds."""
    version = _run([*compiler.split(), "--version"])
    parts = (SOURCE.read_text(), " ".join(FLAGS), compiler, version, _processor())
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


@functools.lru_cache(maxsize=1)
def openmp_parallel() -> Optional[int]:
    """Address of GOMP_parallel in the OpenMP runtime that torch has loaded; None if it is another.

    Threads of a runtime of its own would compete with torch's, which wait by spinning.
    """
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        function = getattr(ctypes.CDLL(str(path)), "GOMP_parallel", None)
        if function is not None:
            return ctypes.cast(function, ctypes.c_void_p).value
    return None


def _arguments() -> list[Any]:
    """x, tokens, inputs, bias, outputs, starts, columns, values, height, chunk, y, threads,
    parallel: see the kernel."""
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    tensors = [pointer, size, size, pointer, size, pointer, pointer, pointer]
    return [*tensors, size, size, pointer, size, pointer]
