"""A family is complete or absent, wherever its run is killed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from asrprune.lm.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from asrprune.prune.methods import Options
from asrprune.prune.run import fine_tuning, loop
from asrprune.prune.run.loop import prune_family
from asrprune.prune.run.plan import FineTuning, Plan
from tests.damage import killed_at, tree
from tests.prune.small_models import DATA, small_model
from tests.quick import slow

OPTIONS = Options(min_heads=0, min_width=0, min_rank=0, multiple_of=1)
TIMES = ("wall_s", "fine_tune_s", "prune_s", "crc32")
"""Keys that differ between two runs, and the checksum, which is of them too."""


@pytest.fixture
def parent(tmp_path: Path) -> Checkpoint:
    (tmp_path / "pieces").write_bytes(b"pieces")
    return load_checkpoint(save_checkpoint(tmp_path / "lm", small_model(), tmp_path / "pieces", {}))


def plan(schedule: str) -> Plan:
    tuning = FineTuning(batch_tokens=32, precision="fp32")
    one = Plan("magnitude", "low-rank", schedule, (0.2, 0.4), 2, 40, options=OPTIONS)
    return Plan(**{**vars(one), "fine_tuning": tuning})


def content(folder: Path) -> dict[str, Any]:
    """The files without what depends on time."""
    return {
        name: json.loads(raw, object_hook=_timeless) if name.endswith(".json") else raw
        for name, raw in tree(folder).items()
    }


def _timeless(value: dict[str, Any]) -> dict[str, Any]:
    return {key: one for key, one in value.items() if key not in TIMES}


@pytest.mark.parametrize(
    ("schedule", "every", "save_s"),
    [
        ("cubic", 14, 300.0),
        ("elastic", 23, 0.0),
        *slow([("cubic", 1, 300.0), ("one-shot", 1, 300.0), ("elastic", 7, 0.0)]),
    ],
)
def test_a_run_that_is_killed_anywhere_ends_as_if_nothing_had_happened(
    parent: Checkpoint,
    tmp_path: Path,
    schedule: str,
    every: int,
    save_s: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fine_tuning, "SAVE_S", save_s)
    monkeypatch.setattr(fine_tuning, "LOOK_STEPS", 1)
    prune_family(parent, DATA, plan(schedule), tmp_path / "whole", {}, {})
    whole, out = content(tmp_path / "whole"), tmp_path / "out"
    killed, change = True, 0
    while killed:
        with killed_at(change) as died:
            prune_family(parent, DATA, plan(schedule), out, {}, {})
        killed = died()
        if killed and out.exists():
            assert content(out) == whole, f"half a family, killed at change {change}"
        prune_family(parent, DATA, plan(schedule), out, {}, {})
        assert content(out) == whole, f"killed at change {change}"
        left = sorted(path.name for path in tmp_path.iterdir())
        assert left == ["lm", "out", "pieces", "whole"], f"killed at change {change}"
        shutil.rmtree(out)
        change += every
    assert change > 30


def test_members_can_be_used_before_the_run_ends(
    parent: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = loop.save_state, []

    def look(work: Path, *rest: Any) -> None:
        seen.append(sorted(path.name for path in work.glob("sparsity-*")))
        if seen[-1]:
            load_checkpoint(work / seen[-1][0])
        assert not (tmp_path / "out").exists()
        real(work, *rest)

    monkeypatch.setattr(loop, "save_state", look)
    prune_family(parent, DATA, plan("one-shot"), tmp_path / "out", {}, {})
    assert seen == [["sparsity-0.20"], ["sparsity-0.20", "sparsity-0.40"]]


def test_nothing_stale_comes_along(parent: Checkpoint, tmp_path: Path) -> None:
    """Members of an older plan, whose file was damaged; temporary names."""
    prune_family(parent, DATA, plan("cubic"), tmp_path / "whole", {}, {})
    work = tmp_path / "out.pruning"
    for name in ("sparsity-0.90", ".sparsity-0.20.77.tmp", ".state.pt.tmp"):
        save_checkpoint(work / name, parent.model, parent.tokenizer_path, {})
    (work / "plan.json").write_text('{"plan": ')
    prune_family(parent, DATA, plan("cubic"), tmp_path / "out", {}, {})
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert not work.exists()
