"""How long an engine takes from nothing to its first score, in processes of their own.

    python tests/bench/startup.py --lm exp/lm [--engines torch,onnx,int8] [--repeats 3]

"import" is Python, torch and this package; "open" loads the checkpoint and makes the engine
(onnx-int8: calibration included; int8, sparse: packing, and at the very first use on a machine
compiling); "first" is scoring one short sentence. Medians of wall seconds. The file cache is warm
after the first run, which does not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

PARTS = ("import", "open", "first", "whole")

ONE = """
import json, sys, time
start = time.perf_counter()
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.open import open_lm
imported = time.perf_counter()
lm = open_lm(sys.argv[1], sys.argv[2], EngineOptions(1, "cpu"))
opened = time.perf_counter()
lm.score_lists([["a"]])
done = time.perf_counter()
print(json.dumps([imported - start, opened - imported, done - opened]))
"""


def measure(lm: str, engine: str) -> list[float]:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", ONE, lm, engine], check=True, capture_output=True, text=True
    )
    return [*json.loads(done.stdout), time.perf_counter() - start]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lm", required=True)
    parser.add_argument("--engines", default="torch,torch-bf16,onnx,onnx-int8,int8,sparse")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(f"{'wall s':12}" + "".join(f"{part:>8}" for part in PARTS))
    runs: dict[str, list[list[float]]] = {engine: [] for engine in args.engines.split(",")}
    for turn in range(args.repeats + 1):
        for engine, found in runs.items():
            measured = measure(args.lm, engine)
            if turn:
                found.append(measured)
    for engine, found in runs.items():
        print(f"{engine:12}" + "".join(f"{statistics.median(part):8.2f}" for part in zip(*found)))


if __name__ == "__main__":
    main()
