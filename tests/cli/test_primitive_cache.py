"""Kernels that are made for ever new shapes do not pile up, and users have the last word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import asrprune
from asrprune.cli.primitive_cache import CHOICES, KEPT, TORCH_CHOICE, TORCH_KEPT

SHAPES = 600
MAKE_SHAPES = f"""
import os
from asrprune.cli import list as verb, main

def rss_bytes():
    with open("/proc/self/statm") as facts:
        return int(facts.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def use(rows):
    import torch
    values = torch.zeros(rows, 8, requires_grad=True)
    torch.nn.functional.gelu(values).sum().backward()

def run(args):
    for rows in range(1, 101):
        use(rows)
    before = rss_bytes()
    for rows in range(101, 101 + {SHAPES}):
        use(rows)
    print(rss_bytes() - before)

verb.run = run
main.main(["list"])
"""
ASK = f"""
import os
from asrprune.cli import list as verb, main
verb.run = lambda args: print([os.environ.get(name) for name in {(*CHOICES, TORCH_CHOICE)!r}])
main.main(["list"])
"""


def run(code: str, own: dict[str, str]) -> str:
    chosen = {*CHOICES, TORCH_CHOICE}
    environment = {name: value for name, value in os.environ.items() if name not in chosen}
    environment["PYTHONPATH"] = str(Path(asrprune.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**environment, **own},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, [KEPT, None, TORCH_KEPT]),
        ({CHOICES[0]: "5", TORCH_CHOICE: "9"}, ["5", None, "9"]),
        ({CHOICES[1]: "7"}, [None, "7", TORCH_KEPT]),
    ],
)
def test_the_environment_decides_and_else_few_are_kept(own, expected):
    assert run(ASK, own) == f"{expected}\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the resident memory")
def test_memory_does_not_grow_with_the_shapes():
    assert int(run(MAKE_SHAPES, {})) < SHAPES * 15_000  # 43,000 each where all are kept
