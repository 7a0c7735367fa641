"""``asrprune list``."""

from __future__ import annotations

import importlib

import pytest

from asrprune.cli.list import AXES
from asrprune.cli.main import main


@pytest.mark.parametrize("axis", AXES)
def test_lists_every_entry_of_the_axis(axis: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", axis]) == 0
    module, table = AXES[axis]
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading == axis
    assert [line.split()[0] for line in lines] == list(
        getattr(importlib.import_module(module), table)
    )


def test_without_an_axis_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if not line.startswith(" ")] == list(AXES)


def test_unknown_axis_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "criterion"]) == 2
    assert "did you mean 'criteria'" in capsys.readouterr().err
