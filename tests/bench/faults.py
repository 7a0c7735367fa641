"""Faults put into a copy of the package, one at a time: which test sees each of them?

    python tests/bench/faults.py [--list] [--only NAME ...] [--jobs 1]

Each fault of fault_table.py changes one place of a copy of asrprune/ in a temporary folder; then
the tests that are named with it run there, without the slow ones, up to the first that fails. All
of them must pass without a fault first. Exit status 1: a fault is seen by no test, its text does
not stand once in its file, or the tests do not even start.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fault_table import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 600
OUTPUT = "pytest.out"
CONFTEST = """
from hypothesis import Phase, settings

settings.register_profile("faults", phases=(Phase.explicit, Phase.generate))
settings.load_profile("faults")
"""
"""Failing examples need not be made small."""
PROCESSES = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Verdict:
    """``caught``: the id of the first test that fails, "" where none does; then ``problem``."""

    caught: str
    problem: str
    wall_s: float


def copy_package(folder: Path) -> None:
    """The package, its tests and pytest's settings; no output of other runs."""
    for name in ("asrprune", "tests"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy2(ROOT / "pyproject.toml", folder)
    (folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")


def put(fault: Fault, folder: Path) -> None:
    """Raises ValueError unless the text to change stands once in its file."""
    file = folder / "asrprune" / fault.file
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if text.count(fault.before) != 1:
        raise ValueError(
            f"{fault.before!r} stands {text.count(fault.before)} times in {fault.file}"
        )
    file.write_text(text.replace(fault.before, fault.after), encoding="utf-8")


def run_pytest(folder: str, tests: Sequence[str]) -> None:
    """In a process of its own: leaves with pytest's exit status, its output in OUTPUT."""
    import pytest

    os.chdir(folder)
    os.environ["PYTHONPATH"] = folder
    sys.path.insert(0, folder)
    with open(OUTPUT, "w", encoding="utf-8") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    import asrprune

    assert str(asrprune.__file__).startswith(folder), "the tests must see the copy"
    flags = ["-x", "-q", "-m", "not slow", "-rfE", "--tb=no", "--hypothesis-seed=0"]
    names = [f"tests/{name}" for name in tests]
    sys.exit(int(pytest.main([*flags, "-p", "no:cacheprovider", *names])))


def judge(fault: Fault | None, tests: Sequence[str]) -> Verdict:
    """Run ``tests`` on a copy with the fault, or without any."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name).resolve()
        copy_package(folder)
        if fault is not None:
            try:
                put(fault, folder)
            except ValueError as problem:
                return Verdict("", str(problem), time.monotonic() - start)
        process = PROCESSES.Process(target=run_pytest, args=(str(folder), tests))
        process.start()
        process.join(LIMIT_S)
        if process.is_alive():
            process.kill()
            process.join()
            return Verdict("", f"no end within {LIMIT_S} s", time.monotonic() - start)
        output = (folder / OUTPUT).read_text(encoding="utf-8")
    failed = re.search(r"^FAILED (\S+)", output, re.MULTILINE)
    wall_s = time.monotonic() - start
    if process.exitcode == 1 and failed is not None:
        return Verdict(failed.group(1).removeprefix("tests/"), "", wall_s)
    if process.exitcode == 0:
        return Verdict("", "no test fails", wall_s)
    last = (output.strip().splitlines() or [""])[-1]
    return Verdict("", f"pytest ends with status {process.exitcode}: {last}", wall_s)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the faults and run nothing")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="faults with NAME in their name or file"
    )
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time (default 1)")
    args = parser.parse_args()
    chosen = [
        fault
        for fault in FAULTS
        if args.only is None or any(one in f"{fault.name} {fault.file}" for one in args.only)
    ]
    if not chosen:
        parser.error(f"no fault is called {args.only}; --list prints their names")
    if args.list:
        for fault in chosen:
            print(f"{fault.file:44} {fault.name}")
        return 0
    os.environ["OMP_NUM_THREADS"] = "1"  # before the processes import torch
    PROCESSES.set_forkserver_preload(["torch"])  # the package itself is imported from each copy
    tests = list(dict.fromkeys(test for fault in chosen for test in fault.tests))
    without = judge(None, tests)
    if without.problem != "no test fails":
        print(f"without a fault: {without.caught or without.problem}", file=sys.stderr)
        return 1
    print(f"{len(tests)} files or tests pass without a fault in {without.wall_s:.0f} s", flush=True)
    missed = 0
    with ThreadPoolExecutor(args.jobs) as workers:
        for fault, found in zip(chosen, workers.map(lambda one: judge(one, one.tests), chosen)):
            missed += not found.caught
            seen = found.caught or f"NOT SEEN: {found.problem}"
            print(f"{found.wall_s:5.1f} s  {fault.name}: {seen}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} faults are seen")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
