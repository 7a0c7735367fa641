"""Damaged files of every kind, read by every verb: no traceback, no hang, bounded memory.

    python -m tests.bench.fuzz [--mutations 2500] [--kinds PART ...] [--seed 1] [--first 0]
                               [--round 100]

Prints every failure with what makes it again, and after each round of all kinds a table so far: a
row for each kind with the mutations, how many were refused and accepted, the slowest (ms), the
largest growth of memory (MB), the processor time of all (s), and how many failed. A failure is a
status other than 0 and 1 (and 2, where bad content may be bad usage), a traceback, more or less
than one line beside the log on stderr, more than SECONDS (but for training that finishes step
after step: a file may ask for any number), or more than MOST_BYTES over what the process had.
Status 1 if there are any. ``tests/contracts/test_fuzz.py`` runs the first mutations of every kind.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
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
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Optional
from unittest import mock

import torch
from torch.nn import Parameter
from torch.optim import AdamW

from asrprune.cli.main import main as command
from asrprune.lm.training.loop import TrainingLoop
from tests.bench.fuzz_kinds import KINDS, Kind, loosen, make_shared
from tests.bench.fuzz_mutations import TEXT_CONTENTS, lengthened, mutated

SECONDS = 5.0
"""Of processor time, so that a busy machine fails nothing; of any time 24 times as much."""
MOST_BYTES = 1 << 30
ENOUGH_STEPS = 10
"""Of training in SECONDS show that it goes on as the file asks, and does not hang."""
LOOSE = 0.75
"""Share of the mutations that checksums do not find."""
LONGEST_MESSAGE = 3500
_NO_UNKNOWN = "The ARPA file is missing <unk>.  Substituting log10 probability -100.\n"
"""What KenLM writes to stderr of an n-gram that may well be so."""
_MEMORY = ("allocate", "memoryerror", "bad_alloc", "out of memory", "unable to mmap")


class TooLong(BaseException):
    """A call ran for more than it may."""


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
    cpu_s: float = 0.0
    failures: int = 0

    def add(self, outcome: Outcome) -> None:
        self.mutations += 1
        self.refused += outcome.status != 0
        self.accepted += outcome.status == 0
        self.slowest_ms = max(self.slowest_ms, outcome.cpu_ms)
        self.peak_mb = max(self.peak_mb, outcome.grown_mb)
        self.cpu_s += outcome.cpu_ms / 1e3
        self.failures += outcome.failure != ""


class Fuzz:
    """A folder (private, on a fast disk) with whole files and one that is damaged."""

    def __init__(self, folder: Path, seed: int = 1, seconds: float = SECONDS) -> None:
        self.folder = folder
        self.seed = seed
        self.seconds = seconds
        self.shared = folder / "shared"
        self._read: dict[str, list[str]] = {}
        AdamW([Parameter(torch.zeros(1))])  # torch imports for seconds when it makes its first one
        with _quiet():
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
            with _quiet():
                KINDS[name].make(here, self.shared)
            kept.parent.mkdir(exist_ok=True)
            here.rename(kept)
        return kept

    def check_whole(self, name: str) -> list[str]:
        """What is wrong with the calls of a kind on its undamaged files; looked at once.

        Whatever the calls import is in this process from then on.
        """
        kind, found = KINDS[name], list[str]()
        for index in range(len(kind.calls)) if name not in self._read else ():
            self.place(name)
            outcome = _guarded(kind, self.argv(kind, index), 60.0)
            if outcome.status != 0 or outcome.failure:
                found.append(f"{kind.calls[index]}: {outcome.failure or outcome.error}")
        return self._read.setdefault(name, found)

    def one(self, name: str, index: int) -> Outcome:
        """The outcome of mutation number ``index`` of a kind; the same whenever it is asked."""
        self.damage(name, index)
        return _guarded(KINDS[name], self.argv(KINDS[name], index), self.seconds)

    def many(self, name: str, indices: Sequence[int]) -> Iterator[tuple[int, Outcome]]:
        """The outcomes of mutations; those of a forked kind in other processes."""
        self.check_whole(name)
        if KINDS[name].forked:
            yield from self._in_children(lambda index: self.one(name, index), indices)
        else:
            for index in indices:
                yield index, self.one(name, index)

    def long(self, name: str, fills: Sequence[str], size: int) -> Iterator[tuple[int, Outcome]]:
        """The outcomes of a kind's calls, in turns, with each of ``fills`` for ``size`` bytes in a
        word of a file; in other processes, since a library may not hear the alarm."""
        texts = sorted(
            file for file, content in KINDS[name].files.items() if content in TEXT_CONTENTS
        )

        def one(index: int) -> Outcome:
            rng = random.Random(f"{self.seed}/{name}/{fills[index]}")
            file = rng.choice(texts)
            raw = (self.place(name) / file).read_bytes()
            long = lengthened(rng, KINDS[name].files[file], raw, fills[index], size)
            return self.given(name, file, long, index)

        if texts:
            self.check_whole(name)
            yield from self._in_children(one, range(len(fills)))

    def given(self, name: str, file: str, content: bytes, index: int) -> Outcome:
        """The outcome of a call of a kind, in turns, with this in the place of one of its files,
        and no checksums."""
        here = self.place(name, loose=True)
        (here / file).write_bytes(content)
        KINDS[name].seal(here)
        return _guarded(KINDS[name], self.argv(KINDS[name], index), self.seconds)

    def _in_children(
        self, one: Callable[[int], Outcome], indices: Sequence[int]
    ) -> Iterator[tuple[int, Outcome]]:
        """Outcomes of another process, a new one for what is left where one was ended."""
        left = list(indices)
        while left:
            for outcome in in_a_child(lambda: map(one, left), 30 * self.seconds):
                yield left.pop(0), outcome

    def damage(self, name: str, index: int) -> None:
        """Put the kind's files in place, one of them damaged."""
        kind = KINDS[name]
        rng = random.Random(f"{self.seed}/{name}/{index}")
        loose = rng.random() < LOOSE
        here = self.place(name, loose)
        file = rng.choice(sorted(kind.files))
        raw = (here / file).read_bytes()
        (here / file).write_bytes(mutated(rng, kind.files[file], raw))
        if loose:
            kind.seal(here)

    def place(self, name: str, loose: bool = False) -> Path:
        """The folder with the kind's whole files, fresh; ``loose``: without their checksums."""
        kept = self.whole(name)
        if loose:
            kept = kept.with_name(f"{kept.name}.loose")
            if not kept.exists():
                shutil.copytree(self.whole(name), kept)
                loosen(kept)
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


def _guarded(kind: Kind, argv: list[str], seconds: float) -> Outcome:
    """The outcome of one call in this process."""
    before, problem, status = _start_of_peak(), "", -1
    with tempfile.TemporaryFile() as captured, ExitStack() as stack:
        kind.patches(stack)
        stack.enter_context(limited(seconds))
        with _redirected(captured):
            start = time.process_time()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("always")
                    status = command(argv)
            except TooLong:
                if kind.trains and _is_training():
                    status = 0
                else:
                    problem = f"more than {seconds:g} s: {_where()}"
            except MemoryError:
                problem = f"MemoryError: {_where()}"
            except BaseException:  # whatever it is, it is a failure
                problem = traceback.format_exc(limit=-4)
            cpu_ms = 1e3 * (time.process_time() - start)
        captured.seek(0)
        error = captured.read().decode("utf-8", "replace")
    if status in (130, 143):  # someone ended the fuzz, not a damaged file
        raise KeyboardInterrupt
    grown = _peak() - before
    problem = problem or _wrong(kind, argv, status, error, grown)
    return Outcome(status, cpu_ms, grown / 1e6, problem, error[:2000])


def _where() -> str:
    """The last places of our own code on the way to the exception."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    own = [frame for frame in frames if "asrprune" in frame.filename] or frames
    return " < ".join(f"{Path(one.filename).name}:{one.lineno}" for one in own[:-4:-1])


def _is_training() -> bool:
    """Whether the exception came in a training step, and steps before it were finished."""
    frames = [frame for frame, _ in traceback.walk_tb(sys.exc_info()[2])]
    step = inspect.unwrap(TrainingLoop.step).__code__
    loops = [one.f_locals["self"] for one in frames if one.f_code is step]
    return any(loop.steps >= ENOUGH_STEPS for loop in loops)


def _is_between_steps(frame: Optional[FrameType]) -> bool:
    """Whether training goes on as the file asks, and is about to begin another step."""
    frames = [one for one, _ in traceback.walk_stack(frame)]
    step = inspect.unwrap(TrainingLoop.step).__code__
    loops = [one.f_locals.get("loop") for one in frames]
    steps = (loop.steps for loop in loops if isinstance(loop, TrainingLoop))
    return max(steps, default=0) >= ENOUGH_STEPS and all(one.f_code is not step for one in frames)


def _wrong(kind: Kind, argv: list[str], status: int, error: str, grown: int) -> str:
    """What is wrong with a call's end."""
    error = error.replace(_NO_UNKNOWN, "")
    lines = error.splitlines()
    if status not in ((0, 1, 2) if kind.usage else (0, 1)):
        return f"status {status}: {error[:500]}"
    if status == 0 and lines:
        return f"status 0 and on stderr {error[:500]!r}"
    if status and (len(lines) != 1 or not error.startswith(f"asrprune {argv[0]}: ")):
        return f"status {status} and not one line: {error[:900]!r}"
    another = "belongs to another run" in error and "; remove it or choose" in error
    system = "File name too long" in error  # of an id that is an output's name
    if status == 1 and "; expected " not in error and not (another or system):
        return f"a message without what is expected: {error[:500]!r}"
    if len(error) > LONGEST_MESSAGE:
        return f"a message of {len(error)} characters: {error[:200]!r}"
    if any(word in error.lower() for word in _MEMORY):
        return f"memory asked for before a check: {error[:300]!r}"
    if grown > MOST_BYTES:
        return f"{grown / 1e6:.0f} MB more"
    return ""


def in_a_child(work: Callable[[], Iterator[Outcome]], seconds: float) -> Iterator[Outcome]:
    """The outcomes of ``work`` in a process of its own, which a library may end or hang; it is
    ended after ``seconds`` without one."""
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
        if not select.select([reading], [], [], seconds)[0]:
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
def limited(seconds: float) -> Iterator[None]:
    """An alarm after ``seconds``, and at most MOST_BYTES of address space over what is there."""

    def ring(number: int, frame: Optional[FrameType]) -> None:
        if number == signal.SIGPROF and next(delays, None) and _is_between_steps(frame):
            signal.setitimer(signal.ITIMER_PROF, 0.05)
            return
        raise TooLong

    delays = iter([True] * 40)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    old = [(one, signal.signal(one, ring)) for one in (signal.SIGPROF, signal.SIGALRM)]
    resource.setrlimit(resource.RLIMIT_AS, (size + MOST_BYTES + (256 << 20), hard))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 24 * seconds)
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
    text = open(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
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
    lines = ["| kind | mutations | refused | accepted | slowest ms | peak MB | all s | failures |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        lines.append(
            f"| {row.kind} | {row.mutations} | {row.refused} | {row.accepted} |"
            f" {row.slowest_ms:.0f} | {row.peak_mb:.0f} | {row.cpu_s:.1f} |"
            f" {row.failures} |"
        )
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mutations", type=int, default=2500, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--round", type=int, default=100, help="of a kind before the next kind")
    parser.add_argument("--kinds", nargs="+", help="those whose names have one of these in them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", help="folder to work in, which stays: the last damage is there")
    return parser.parse_args()


def main() -> int:
    args = parse()
    import torch

    torch.set_num_threads(1)
    rows = [
        Row(name)
        for name in KINDS
        if args.kinds is None or any(part in name for part in args.kinds)
    ]
    with ExitStack() as stack:
        if args.keep:
            folder = Path(args.keep)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        else:
            base: Optional[str] = "/dev/shm" if os.path.isdir("/dev/shm") else None
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=base)))
        fuzz = Fuzz(folder, args.seed)
        for row in rows:
            for problem in fuzz.check_whole(row.kind):
                row.failures += 1
                _show(row, -1, problem)
        end = args.first + args.mutations
        for first in range(args.first, end, args.round):
            for row in rows:
                indices = range(first, min(first + args.round, end))
                for index, outcome in fuzz.many(row.kind, indices):
                    row.add(outcome)
                    if outcome.failure:
                        _show(row, index, outcome.failure)
            print(f"\n{table(rows)}\n", flush=True)
    return 1 if any(row.failures for row in rows) else 0


def _show(row: Row, index: int, problem: str) -> None:
    print(f"{row.kind} {index}: {problem}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
