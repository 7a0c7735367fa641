"""The faults of tests/bench/faults.py still fit the code; that script says who sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

import asrprune
from tests.bench.fault_table import FAULTS, Fault

PACKAGE = Path(asrprune.__file__).parent
TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_changes_one_place_and_names_its_tests(fault: Fault) -> None:
    text = (PACKAGE / fault.file).read_text(encoding="utf-8")
    assert text.count(fault.before) == 1, "what the fault changes stands elsewhere or not at all"
    assert fault.after != fault.before
    compile(text.replace(fault.before, fault.after), fault.file, "exec")
    assert fault.tests
    for name in fault.tests:
        file, _, function = name.partition("::")
        source = (TESTS / file).read_text(encoding="utf-8")
        assert f"def {function}" in source


def test_every_part_of_the_package_has_faults() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    for part in ("lm", "prune", "rescore", "firstpass"):
        assert sum(fault.file.startswith(f"{part}/") for fault in FAULTS) >= 15
