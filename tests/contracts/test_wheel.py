"""What tests/run.sh tests is the wheel, and the wheel is whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import asrprune

CHECKOUT = Path(__file__).parents[2] / "asrprune"
PACKAGE = Path(asrprune.__file__).parent

pytestmark = pytest.mark.skipif(
    "ASRPRUNE_TEST_SITE" not in os.environ,
    reason="the checkout is what is tested; tests/run.sh tests the wheel",
)


def _contents(package: Path) -> dict[str, bytes]:
    """All files but the guides (``README.md``), which are for those who read the tree."""
    return {
        str(path.relative_to(package)): path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md"
    }


def test_modules_come_from_the_wheel_in_other_processes_too() -> None:
    site = Path(os.environ["ASRPRUNE_TEST_SITE"])
    assert site / "asrprune" == PACKAGE
    code = "import asrprune; print(asrprune.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parent == PACKAGE


def test_the_wheel_holds_every_file_of_the_package() -> None:
    checkout, wheel = _contents(CHECKOUT), _contents(PACKAGE)
    assert sorted(wheel) == sorted(checkout)
    assert wheel == checkout
    assert {".typed", ".cpp", ".py"} <= {Path(name).suffix for name in wheel}


def test_the_wheel_brings_the_command() -> None:
    command = shutil.which("asrprune")
    assert command == str(PACKAGE.parent / "bin/asrprune")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"asrprune {asrprune.__version__}"
