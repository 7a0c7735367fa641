"""Damaged files of every kind, read by every verb: no traceback, no hang, bounded memory.

    python -m tests.bench.fuzz [--mutations 2500] [--kinds PART ...] [--seed 1] [--first 0]

Prints a row for each kind: mutations, how many were refused and accepted, the slowest (ms), the
largest growth of memory (MB), and failures; then every failure with what makes it again. A failure
is a status other than 0 and 1 (and 2, where bad content may be bad usage), a traceback, more or
less than one line beside the log on stderr, more than SECONDS, or more than MOST_BYTES over what
the process had. Status 1 if there are any. ``tests/contracts/test_fuzz.py`` runs the first
mutations of every kind.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import random
import resource
import select
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional
from unittest import mock

from asrprune.cli.main import main as command
from tests.bench.fuzz_kinds import KINDS, Kind, make_shared
from tests.bench.fuzz_mutations import mutated

SECONDS = 5.0
"""Of processor time, so that a busy machine fails nothing; of any time 24 times as much."""
MOST_BYTES = 1 << 30
LONGEST_MESSAGE = 3500
_MEMORY = ("allocate", "memoryerror", "bad_alloc", "out of memory", "unable to mmap")


class TooLong(BaseException):
    """A mutation ran for more than SECONDS."""


@dataclass
class Outcome:
    """What became of one mutation; ``failure`` is "" for a good end."""

    status: int
    cpu_ms: float
    grown_mb: float
    failure: str = ""
    error: str = ""


@dataclass
class Row:
    """The outcomes of one kind, added up."""

    kind: str
    mutations: int = 0
    refused: int = 0
    accepted: int = 0
    slowest_ms: float = 0.0
    peak_mb: float = 0.0
    failures: list[tuple[int, str]] = field(default_factory=list)

    def add(self, index: int, outcome: Outcome) -> None:
        self.mutations += 1
        self.refused += outcome.status != 0
        self.accepted += outcome.status == 0
        self.slowest_ms = max(self.slowest_ms, outcome.cpu_ms)
        self.peak_mb = max(self.peak_mb, outcome.grown_mb)
        if outcome.failure:
            self.failures.append((index, outcome.failure))


class Fuzz:
    """A folder (private, on a fast disk) with whole files and one that is damaged."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.folder = folder
        self.seed = seed
        self.shared = folder / "shared"
        with _quiet(), _small():
            self.shared.mkdir()
            make_shared(self.shared)
            (self.shared / "run").mkdir()
            shutil.copyfile(self.shared / "ref", self.shared / "run/hyp")

    def whole(self, name: str) -> Path:
        """The folder of the kind's files before damage, made once."""
        here = self.folder / "here"
        kept = self.folder / "whole" / name.replace(" ", "-")
        if not kept.exists():
            shutil.rmtree(here, ignore_errors=True)
            here.mkdir()
            with _quiet(), _small():
                KINDS[name].make(here, self.shared)
            kept.parent.mkdir(exist_ok=True)
            here.rename(kept)
        return kept

    def check_whole(self, name: str) -> list[str]:
        """What is wrong with the calls of a kind on its undamaged files."""
        kind, found = KINDS[name], []
        for index in range(len(kind.calls)):
            self._place(name)
            with mock.patch(f"{__name__}.SECONDS", 60.0):  # modules are imported
                outcome = _guarded(kind, self.argv(kind, index))
            if outcome.status != 0 or outcome.failure:
                found.append(f"{kind.calls[index]}: {outcome.failure or outcome.error}")
        return found

    def one(self, name: str, index: int) -> Outcome:
        """The outcome of mutation number ``index`` of a kind; the same whenever it is asked."""
        self.damage(name, index)
        return _guarded(KINDS[name], self.argv(KINDS[name], index))

    def many(self, name: str, indices: Sequence[int]) -> Iterator[tuple[int, Outcome]]:
        """The outcomes of mutations; of a forked kind in other processes, a new one for what is
        left where one was ended."""
        if not KINDS[name].forked:
            for index in indices:
                yield index, self.one(name, index)
            return
        left = list(indices)
        while left:
            for outcome in _in_a_child(lambda: (self.one(name, index) for index in left)):
                yield left.pop(0), outcome

    def damage(self, name: str, index: int) -> None:
        """Put the kind's files in place, one of them damaged."""
        kind = KINDS[name]
        here = self._place(name)
        rng = random.Random(f"{self.seed}/{name}/{index}")
        file = rng.choice(sorted(kind.files))
        raw = (here / file).read_bytes()
        (here / file).write_bytes(mutated(rng, kind.files[file], raw))
        kind.seal(here)

    def _place(self, name: str) -> Path:
        kept = self.whole(name)
        here = self.folder / "here"
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(kept, here)
        for path in self.folder.glob("out*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return here

    def argv(self, kind: Kind, index: int) -> list[str]:
        names = {"here": self.folder / "here", "shared": self.shared, "out": self.folder / "out"}
        call = kind.calls[index % len(kind.calls)]
        return [word.format(**names) for word in shlex.split(call)]


def _guarded(kind: Kind, argv: list[str]) -> Outcome:
    """The outcome of one call in this process."""
    before, problem, status = _start_of_peak(), "", -1
    with tempfile.TemporaryFile() as captured, ExitStack() as stack:
        stack.enter_context(_small())
        kind.patches(stack)
        stack.enter_context(_limited())
        with _redirected(captured):
            start = time.process_time()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("always")
                    status = command(argv)
            except TooLong:
                problem = f"more than {SECONDS:g} s: {_where()}"
            except MemoryError:
                problem = f"MemoryError: {_where()}"
            except BaseException:  # whatever it is, it is a failure
                problem = traceback.format_exc(limit=-4)
            cpu_ms = 1e3 * (time.process_time() - start)
        captured.seek(0)
        error = captured.read().decode("utf-8", "replace")
    grown = _peak() - before
    problem = problem or _wrong(kind, argv, status, error, grown)
    return Outcome(status, cpu_ms, grown / 1e6, problem, error[:2000])


def _where() -> str:
    """The last places of our own code on the way to the exception."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    own = [frame for frame in frames if "asrprune" in frame.filename] or frames
    return " < ".join(f"{Path(one.filename).name}:{one.lineno}" for one in own[:-4:-1])


def _wrong(kind: Kind, argv: list[str], status: int, error: str, grown: int) -> str:
    """What is wrong with a call's end."""
    lines = error.splitlines()
    if status not in ((0, 1, 2) if kind.usage else (0, 1)):
        return f"status {status}: {error[:500]}"
    if status == 0 and lines:
        return f"status 0 and on stderr {error[:500]!r}"
    if status and (len(lines) != 1 or not error.startswith(f"asrprune {argv[0]}: ")):
        return f"status {status} and not one line: {error[:900]!r}"
    another = "belongs to another run" in error and "; remove it or choose" in error
    if status == 1 and "; expected " not in error and not another:
        return f"a message without what is expected: {error[:500]!r}"
    if len(error) > LONGEST_MESSAGE:
        return f"a message of {len(error)} characters: {error[:200]!r}"
    if any(word in error.lower() for word in _MEMORY):
        return f"memory asked for before a check: {error[:300]!r}"
    if grown > MOST_BYTES:
        return f"{grown / 1e6:.0f} MB more"
    return ""


def _in_a_child(work: Callable[[], Iterator[Outcome]]) -> Iterator[Outcome]:
    """The outcomes of ``work`` in a process of its own, which a library may end or hang."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            with open(writing, "w", encoding="utf-8") as stream:
                for outcome in work():
                    stream.write(json.dumps(asdict(outcome)) + "\n")
                    stream.flush()
        finally:
            os._exit(0)
    os.close(writing)
    lines = b""
    while True:
        if not select.select([reading], [], [], 30 * SECONDS)[0]:
            os.kill(child, signal.SIGKILL)
            break
        block = os.read(reading, 1 << 16)
        if not block:
            break
        *whole, lines = (lines + block).split(b"\n")
        for line in whole:
            yield Outcome(**json.loads(line))
    os.close(reading)
    _, status = os.waitpid(child, 0)
    if status:
        yield Outcome(-1, 0.0, 0.0, f"the process ended by {signal.Signals(status & 127).name}")


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """An alarm after SECONDS, and no more than MOST_BYTES of address space over what is there."""

    def ring(*_: Any) -> None:
        raise TooLong

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    old = [(one, signal.signal(one, ring)) for one in (signal.SIGPROF, signal.SIGALRM)]
    resource.setrlimit(resource.RLIMIT_AS, (size + MOST_BYTES + (256 << 20), hard))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 24 * SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for one, handler in old:
            signal.signal(one, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def _redirected(captured: Any) -> Iterator[None]:
    """Everything that is written to stderr, by libraries in C too, goes to ``captured``; stdout and
    the log go nowhere."""
    sys.stderr.flush()
    saved = os.dup(2)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [logging.NullHandler()]
    os.dup2(captured.fileno(), 2)
    text = open(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
    try:
        with mock.patch.object(sys, "stderr", text), mock.patch.object(sys, "stdout", _Sink()):
            yield
    finally:
        text.close()
        os.dup2(saved, 2)
        os.close(saved)
        root.handlers[:] = handlers
        root.setLevel(level)


class _Sink(io.TextIOWrapper):
    """A standard output that keeps nothing."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with tempfile.TemporaryFile() as captured, _redirected(captured):
        try:
            yield
        except BaseException:
            captured.seek(0)
            sys.stdout.write("")
            raise RuntimeError(captured.read().decode()[-2000:]) from None


@contextlib.contextmanager
def _small() -> Iterator[None]:
    """No plots, which take long and read nothing."""
    name = "matplotlib.figure"
    there = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # what is imported meanwhile stays
    try:
        yield
    finally:
        if there is None:
            del sys.modules[name]
        else:
            sys.modules[name] = there


def _start_of_peak() -> int:
    """Forget the largest resident set so far; the set of now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| kind | mutations | refused | accepted | slowest ms | peak MB | failures |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        lines.append(
            f"| {row.kind} | {row.mutations} | {row.refused} | {row.accepted} |"
            f" {row.slowest_ms:.0f} | {row.peak_mb:.0f} | {len(row.failures)} |"
        )
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mutations", type=int, default=2500, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--kinds", nargs="+", help="those whose names have one of these in them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", help="folder to work in, which stays: the last damage is there")
    parser.add_argument("--most", type=int, default=5, help="failures shown of a kind")
    return parser.parse_args()


def main() -> int:
    args = parse()
    import torch

    torch.set_num_threads(1)
    names = [n for n in KINDS if args.kinds is None or any(part in n for part in args.kinds)]
    rows: list[Row] = []
    with ExitStack() as stack:
        if args.keep:
            folder = Path(args.keep)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        else:
            base: Optional[str] = "/dev/shm" if os.path.isdir("/dev/shm") else None
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=base)))
        fuzz = Fuzz(folder, args.seed)
        for name in names:
            row = Row(name)
            rows.append(row)
            for problem in fuzz.check_whole(name):
                row.failures.append((-1, problem))
            start = time.perf_counter()
            wanted = range(args.first, args.first + args.mutations)
            for index, outcome in fuzz.many(name, wanted):
                row.add(index, outcome)
            print(table([row]).splitlines()[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
            for index, problem in row.failures[: args.most]:
                print(f"    {name} {index}: {problem}", flush=True)
    print()
    print(table(rows))
    return 1 if any(row.failures for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
