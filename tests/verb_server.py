"""Runs verbs in processes of their own without loading torch anew, and does them harm.

The server has all modules in memory and forks a child for each order, a JSON line on its input:
``{"argv": [...], "folder": "...", "harm": {...}}``. It answers with ``{"status": ..., "err": ...,
"out": ..., "events": ...}``; the status of a child that a signal ended is minus its number. Events
are the moments at which a process can be killed with a difference: before a file below ``folder``
is opened to be written, renamed, removed or cut, a folder made or removed, before and within a
write, before fsync. ``harm`` may hold

- ``kill``: [event, signal], sent at that event
- ``file_size``: bytes that no file may exceed, as on a full disk
- ``no_override``: true takes from root the power to write where the file's mode forbids it
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import pkgutil
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asrprune
from asrprune.provenance import source_commit

LIMIT_S = 120
_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.symlink"}


@dataclass(frozen=True)
class Ended:
    """How a call ended."""

    status: int
    err: str
    out: str
    events: int


class VerbServer:
    """The client's side."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, argv: Sequence[object], folder: Path, **harm: Any) -> Ended:
        """One call."""
        return self.run_all([argv], folder, **harm)[0]

    def run_all(self, calls: Sequence[Sequence[object]], folder: Path, **harm: Any) -> list[Ended]:
        """Calls at the same time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        texts = [[str(word) for word in argv] for argv in calls]
        order = {"calls": texts, "folder": str(folder), "harm": harm}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return [Ended(**one) for one in json.loads(self._process.stdout.readline())]


@contextmanager
def verb_server() -> Iterator[VerbServer]:
    """A server, gone when the block ends."""
    # the package as the tests have it, be it a wheel's, and then these tests
    places = (Path(asrprune.__file__).parents[1], Path(__file__).parents[1])
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(map(str, places)),
    }
    with subprocess.Popen(
        [sys.executable, "-c", "from tests.verb_server import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        try:
            yield VerbServer(process)
        finally:
            process.kill()


def serve() -> None:
    """The server's side: answer the orders until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _import_everything()
    for line in sys.stdin:
        order = json.loads(line)
        children = [_start(argv, order["folder"], order["harm"]) for argv in order["calls"]]
        answers.write(json.dumps([_wait(*child) for child in children]) + "\n")
        answers.flush()


def _import_everything() -> None:
    for module in pkgutil.walk_packages(asrprune.__path__, "asrprune."):
        if module.name.rpartition(".")[2] not in ("__main__", "k2_live"):
            importlib.import_module(module.name)
    for name in ("lhotse", "torch._dynamo", "torch.utils.tensorboard"):
        with suppress(ImportError):
            importlib.import_module(name)
    source_commit()  # asks git, once for all children


def _start(argv: list[str], folder: str, harm: dict[str, Any]) -> tuple[int, list[int]]:
    """The child's number and the pipes of its output, its messages and its count of events."""
    pipes = [os.pipe() for _ in range(3)]
    child = os.fork()
    if child:
        for _, end in pipes:
            os.close(end)
        return child, [end for end, _ in pipes]
    status = 99
    try:
        signal.alarm(LIMIT_S)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, (_, end) in enumerate(pipes[:2], start=1):
            os.dup2(end, number)
        status = _run(argv, os.path.realpath(folder), harm, pipes[2][1])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _wait(child: int, pipes: list[int]) -> dict[str, Any]:
    texts = []
    for end in pipes:
        with os.fdopen(end, "rb") as stream:
            texts.append(stream.read())
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    out, err = (text.decode("utf-8", "replace") for text in texts[:2])
    return {"status": status, "out": out, "err": err, "events": len(texts[2])}


def _run(argv: list[str], folder: str, harm: dict[str, Any], counted: int) -> int:
    from asrprune.cli.main import main

    at, number = harm.get("kill", (None, None))
    if "file_size" in harm:
        resource.setrlimit(resource.RLIMIT_FSIZE, (harm["file_size"],) * 2)
    if harm.get("no_override"):
        _obey_modes()
    met = 0

    def event() -> None:
        nonlocal met
        met += 1
        os.write(counted, b".")
        if met == at:
            os.kill(os.getpid(), number)

    _watch(folder, event)
    return main(argv)


def _watch(folder: str, event: Callable[[], None]) -> None:
    from asrprune.files import writing

    def below(path: Any) -> bool:
        return isinstance(path, (str, os.PathLike)) and (
            os.path.realpath(path).startswith(folder + os.sep)
        )

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "open":
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and below(path):
                event()
        elif name in _CHANGES and (
            any(below(path) for path in arguments[:2]) or arguments[-1] not in (-1, None)
        ):
            event()

    fsync, write = os.fsync, writing._File.write

    def watched_fsync(descriptor: int) -> None:
        event()
        fsync(descriptor)

    def watched_write(file: Any, block: Any) -> Any:
        event()
        block = memoryview(block)
        half = block.nbytes // 2
        if half:
            write(file, block[:half])
            event()
        return half + write(file, block[half:])

    os.fsync = watched_fsync
    writing._File.write = watched_write  # type: ignore[method-assign]
    sys.addaudithook(hook)


def _obey_modes() -> None:
    """Give up CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH; others than root have neither."""
    if os.geteuid():
        return
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(head, held) == 0
    for kind in (0, 1):  # what counts, and what os.access asks for
        held[kind] &= ~0b110
    assert libc.capset(head, held) == 0
