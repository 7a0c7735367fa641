"""Kill every call of every verb at every moment that matters, then run it again.

    PYTHONPATH=. python tests/bench/survival.py [--only NAME] [--signals KILL,TERM,INT]

The moments are those of ``tests/verb_server.py``: each open, write (before and half way), fsync,
rename and removal. After each kill the output must be whole or absent and the same call must give
the bytes of an undisturbed one, with nothing left over. ``tests/contracts/test_survival.py`` tries
a few moments of each; this tries all, which takes about an hour. Prints a row a call; status 1 when
anything failed.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.contracts.test_survival import CALL, Stage, check_kill, reference, stage_in


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="calls with this in their name")
    parser.add_argument("--signals", default="KILL,TERM,INT")
    return parser.parse_args()


def failures(stage: Stage, name: str, number: signal.Signals) -> list[str]:
    """What went wrong at which event."""
    found = []
    for event in range(1, reference(stage, name)[1] + 1):
        try:
            check_kill(stage, name, event, number)
        except AssertionError as problem:
            line = traceback.extract_tb(problem.__traceback__)[-1].line
            found.append(f"event {event}: {line}: {str(problem).strip()[:600]}")
        stage.clear()
    return found


def main() -> int:
    args = parse()
    failed = 0
    print(f"{'call':20} {'signal':8} {'moments':>8} {'failed':>7} {'s':>7}", flush=True)
    with tempfile.TemporaryDirectory() as folder, stage_in(Path(folder)) as stage:
        for name in (name for name in CALL if args.only in name):
            for number in (signal.Signals[f"SIG{word}"] for word in args.signals.split(",")):
                began = time.monotonic()
                found = failures(stage, name, number)
                failed += len(found)
                spent = time.monotonic() - began
                moments = reference(stage, name)[1]
                print(
                    f"{name:20} {number.name:8} {moments:8} {len(found):7} {spent:7.0f}", flush=True
                )
                for line in found:
                    print(f"    {line}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
