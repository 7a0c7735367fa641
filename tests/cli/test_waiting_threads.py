"""Waiting threads sleep by default, in every verb, before torch is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from asrprune.cli.waiting_threads import CHOICES, SLEEPING

ASK = f"""
import os, sys
from asrprune.cli import list as verb, main
assert "torch" not in sys.modules
verb.run = lambda args: print({{name: os.environ.get(name) for name in {CHOICES!r}}})
main.main(["list"])
"""


@pytest.mark.parametrize("own", [{}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "9"}])
def test_the_environment_decides_and_else_they_sleep(own):
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env={**environment, **own}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = {name: (own or SLEEPING).get(name) for name in CHOICES}
    assert done.stdout == f"{expected}\n"
