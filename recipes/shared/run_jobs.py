#!/usr/bin/env python3
"""Run a command, or one for each of many jobs, on this machine, with the interface of Kaldi's
run.pl, so that slurm.pl or queue.pl can stand in its place:

    run_jobs.py [OPTION VALUE]... [JOB=1:8] exp/log/score.JOB.log COMMAND...

The name before "=" stands for the number of the job in the log's name and in the command. A word
with white space is quoted for the shell, others are given to bash as they are, so that "\\|" makes
a pipe. --max-jobs-run N (-tc N): so many at once, by default one for each core. Other options
(--mem 4G, --num-threads 2, --gpu 1, --config FILE) are for clusters and change nothing here.

Exit status: 0; 1 when a job failed, after all have ended, naming the first one's log; 2 for a wrong
call; 128 + the number of a signal, which ends all jobs.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, Optional

NAME = "run_jobs.py"
PATIENCE_S = 20.0
"""Seconds that jobs get to end in order after a signal."""


def wrong(what: str) -> NoReturn:
    """End with a line that says what is wrong with the call."""
    print(f"{NAME}: {what}", file=sys.stderr)
    sys.exit(2)


def quoted(word: str) -> str:
    """A word of the command for bash, as run.pl quotes it."""
    if re.fullmatch(r"\S+", word):
        return word
    return f"'{word}'" if '"' in word else f'"{word}"'


class Jobs:
    """The processes that run, and whether no more may be started."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.RLock()  # a second signal may come within stop()
        self.signal: Optional[int] = None

    def run(self, log: str, command: str) -> bool:
        """Whether the command came to a good end; what it prints goes to the log."""
        try:
            return self._run(log, command)
        except OSError as problem:  # of the log
            print(f"{NAME}: {log}: {problem.strerror or problem}", file=sys.stderr)
            return False

    def _run(self, log: str, command: str) -> bool:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        with open(log, "wb", buffering=0) as stream:
            started = time.time()
            stream.write(f"# {command}\n# Started at {time.ctime(started)}\n#\n".encode())
            with self._lock:
                if self.signal is not None:
                    return False
                process = subprocess.Popen(
                    ["bash", "-c", command],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    start_new_session=True,
                )
                self._running.add(process)
            code = process.wait()
            with self._lock:
                self._running.discard(process)
            how = f"code {code}" if code >= 0 else f"code 0; signal {-code}"
            took = f"elapsed time {time.time() - started:.0f} seconds"
            stream.write(f"# Ended ({how}) at {time.ctime()}, {took}\n".encode())
        return code == 0

    def stop(self, number: int, frame: Any) -> None:
        """Hand a signal on to all jobs; those that stay are killed."""
        with self._lock:
            first, self.signal = self.signal is None, number
            self._send(number)
        if first:
            killer = threading.Timer(PATIENCE_S, self._send, (signal.SIGKILL,))
            killer.daemon = True
            killer.start()

    def _send(self, number: int) -> None:
        for process in list(self._running):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                continue


def main(argv: Sequence[str]) -> int:
    """Run the jobs; returns the exit status."""
    words = list(argv)
    at_once = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        at_once = len(os.sched_getaffinity(0))
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option in ("-h", "--help"):
            print(__doc__)
            return 0
        if option == "-V":  # of queue.pl: it has no value
            continue
        if not words:
            wrong(f"{option} without a value")
        value = words.pop(0)
        if option in ("--max-jobs-run", "-tc"):
            if not (value.isascii() and value.isdigit() and int(value)):
                wrong(f"{option} {value}; expected a number of jobs")
            at_once = int(value)
    name, first, last = "", 1, 1
    if words and (match := re.fullmatch(r"([\w.]+)=([0-9]+)(?::([0-9]+))?", words[0])):
        name, first, last = match[1], int(match[2]), int(match[3] or match[2])
        del words[0]
        if not 1 <= first <= last:
            wrong(f"jobs {first} to {last}; expected JOB=1:N")
    if len(words) < 2:
        wrong("no LOG and COMMAND; see --help")
    if name and first < last and name not in words[0]:
        wrong(f"one log {words[0]} for many jobs; expected {name} in its name")
    logs, commands = [], []
    for number in range(first, last + 1):
        log, *command = [word.replace(name, str(number)) if name else word for word in words]
        logs.append(log)
        commands.append(" ".join(map(quoted, command)))
    jobs = Jobs()
    for stopped in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(stopped, jobs.stop)
    with ThreadPoolExecutor(at_once) as pool:
        done = list(pool.map(jobs.run, logs, commands))
    failed = [log for log, good in zip(logs, done) if not good]
    if jobs.signal is not None:
        print(f"{NAME}: ended by signal {jobs.signal}", file=sys.stderr)
        return 128 + jobs.signal
    if failed:
        many = f"{len(failed)} / {len(logs)}" if name else "job"
        print(f"{NAME}: {many} failed, log is in {failed[0]}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
