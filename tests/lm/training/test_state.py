"""What a killed or damaged training run goes on from."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asrprune.lm.training import train as training_module
from asrprune.lm.training.state import remove_run
from asrprune.lm.training.train import train
from asrprune.text.corpus import Corpus
from tests.damage import flips, killed_at, tree
from tests.lm.training.test_training import (
    CONFIG,
    TIMES,
    Killed,
    data,
    kill_after,
    log_of,
    same_weights,
)
from tests.quick import slow

__all__ = ["data"]  # a fixture
SMALL = replace(CONFIG, max_steps=12, valid_steps=4, save_steps=3)


def cut_off(data: Corpus, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``lm.training`` of a run that was killed after ten steps, saved at nine, best at eight."""
    with monkeypatch.context() as patch:
        kill_after(10, patch)
        with pytest.raises(Killed):
            train(data, SMALL, folder / "lm")
    return folder / "lm.training"


def _flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


DAMAGES: dict[str, tuple[str, Callable[[Path], object], bool]] = {
    "state flipped": ("state.pt", lambda path: _flip(path, 3000), True),
    "state empty": ("state.pt", lambda path: path.write_bytes(b""), True),
    "best flipped": ("best-8/model.safetensors", lambda path: _flip(path, 1000), True),
    "best without its config": ("best-8/config.json", Path.unlink, True),
    "run flipped": ("run.json", lambda path: _flip(path, 30), False),
    "run empty": ("run.json", lambda path: path.write_bytes(b""), False),
    "run of another type": ("run.json", lambda path: path.write_text("[]"), False),
}
QUICK = ("state flipped", "run flipped")


@pytest.mark.parametrize("what", [*QUICK, *slow(one for one in DAMAGES if one not in QUICK)])
def test_what_is_damaged_is_done_again(
    data: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    work = cut_off(data, tmp_path, monkeypatch)
    name, damage, anew = DAMAGES[what]
    damage(work / name)
    caplog.set_level("INFO")
    caplog.clear()
    again = train(data, SMALL, tmp_path / "lm")
    assert f"lm.training/{name.split('/')[0]} is damaged" in caplog.text
    assert ("starting at step 0" in caplog.text) == anew  # the state says whose it is
    whole = train(data, SMALL, tmp_path / "whole")
    assert log_of(again) == log_of(whole)
    assert same_weights(again, whole)
    assert sorted(tree(work)) == sorted(tree(tmp_path / "whole.training"))


def test_a_damaged_identity_does_not_give_another_runs_state_away(
    data: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = cut_off(data, tmp_path, monkeypatch)
    (work / "run.json").write_text("{")
    before = tree(work)
    with pytest.raises(ValueError, match=r"config.seed is 1 there, 7 now"):
        train(data, replace(SMALL, seed=7), tmp_path / "lm")
    assert tree(work) == before


@pytest.mark.slow
def test_every_flipped_bit_of_the_log_is_found(
    data: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its line is left out: the steps are not made again for it."""
    work = cut_off(data, tmp_path, monkeypatch)
    kept = tmp_path / "kept"
    shutil.copytree(work, kept)
    whole = train(data, SMALL, tmp_path / "whole")
    expected = log_of(whole)
    for _ in flips(kept / "train.jsonl", 12, 0):
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(tmp_path / "lm", ignore_errors=True)
        shutil.copytree(kept, work)
        caplog.clear()
        found = log_of(train(data, SMALL, tmp_path / "lm"))
        assert same_weights(tmp_path / "lm", whole)
        if found != expected:  # else it was in what is logged again
            assert re.search(r"train.jsonl:\d+ is damaged and left out", caplog.text)
            assert all(record in expected for record in found)
            assert len(found) >= len(expected) - 2


def test_a_log_and_a_best_model_of_before_are_gone_on_with(
    data: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier versions wrote no checksums, and the best model to one name."""
    work = cut_off(data, tmp_path, monkeypatch)
    (work / "best-8").rename(work / "best")
    for name, pattern in (
        ("train.jsonl", ', "crc32": "[0-9a-f]{8}"}'),
        ("run.json", ',\n  "crc32": "[0-9a-f]{8}"\n}'),
    ):
        text = (work / name).read_text()
        assert "crc32" in text
        (work / name).write_text(re.sub(pattern, "}", text))
    steps: list[int] = []
    real = training_module.TrainingLoop.step

    def step(loop: training_module.TrainingLoop) -> Any:
        steps.append(loop.steps)
        return real(loop)

    monkeypatch.setattr(training_module.TrainingLoop, "step", step)
    again = train(data, SMALL, tmp_path / "lm")
    assert steps[0] == 9
    whole = train(data, SMALL, tmp_path / "whole")
    assert same_weights(again, whole)
    assert log_of(again) == log_of(whole)
    assert sorted(tree(work)) == sorted(tree(tmp_path / "whole.training"))


def test_the_saved_best_model_stays_until_the_next_state(
    data: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between a new best model and the state that speaks of it."""
    config = replace(SMALL, valid_steps=2, save_steps=3)
    with monkeypatch.context() as patch:
        kill_after(4, patch)
        with pytest.raises(Killed):
            train(data, config, tmp_path / "lm")
    best = sorted(path.name for path in (tmp_path / "lm.training").glob("best-*"))
    assert best == ["best-2", "best-4"]
    again = train(data, config, tmp_path / "lm")
    assert same_weights(again, train(data, config, tmp_path / "whole"))


def test_a_finished_run_that_was_killed_as_it_cleaned_up_is_cleaned_up(
    data: Corpus, tmp_path: Path
) -> None:
    out = train(data, SMALL, tmp_path / "lm")
    work = tmp_path / "lm.training"
    after = sorted(tree(work))
    shutil.copytree(out, work / "best-8")
    shutil.copytree(out, work / ".best-8.tmp")
    (work / "state.pt").write_bytes(b"state")
    assert train(data, SMALL, out) == out
    assert sorted(tree(work)) == after
    (work / "state.pt").write_bytes(b"state")  # another run's
    run = json.loads((work / "run.json").read_text())
    (work / "run.json").write_text(json.dumps({"data": run["data"]}))
    assert train(data, SMALL, out) == out
    assert (work / "state.pt").exists()


def _content(folder: Path) -> dict[str, Any]:
    """The files without what depends on time, and without tensorboard's."""
    found: dict[str, Any] = {}
    for name, raw in tree(folder).items():
        if name.endswith(".json"):
            found[name] = json.loads(raw, object_hook=_timeless)
        elif name.endswith(".jsonl"):
            found[name] = [json.loads(line, object_hook=_timeless) for line in raw.splitlines()]
        else:
            found[name] = raw
    return found


def _timeless(value: dict[str, Any]) -> dict[str, Any]:
    return {key: one for key, one in value.items() if key not in (*TIMES, "time_utc")}


@pytest.mark.parametrize("every", [20, *slow([1])])
def test_a_run_that_is_killed_anywhere_ends_as_if_nothing_had_happened(
    data: Corpus, tmp_path: Path, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_module, "provenance", lambda command, **facts: facts)
    config = replace(CONFIG, max_steps=4, valid_steps=1, save_steps=2)
    train(data, config, tmp_path / "whole")
    whole, work = (_content(tmp_path / name) for name in ("whole", "whole.training"))
    killed, change = True, 0
    while killed:
        with killed_at(change) as died:
            train(data, config, tmp_path / "lm")
        killed = died()
        assert not (tmp_path / "lm").exists() or _content(tmp_path / "lm") == whole
        train(data, config, tmp_path / "lm")
        assert _content(tmp_path / "lm") == whole, f"killed at change {change}"
        assert _content(tmp_path / "lm.training") == work, f"killed at change {change}"
        for name in ("lm", "lm.training"):
            shutil.rmtree(tmp_path / name)
        change += every
    assert change > 30


def test_force_that_is_killed_is_done_again(data: Corpus, tmp_path: Path) -> None:
    config = replace(CONFIG, max_steps=1)
    train(data, config, tmp_path / "lm")
    keep = tmp_path / "keep"
    shutil.copytree(tmp_path, keep)
    for change in range(0, 60, 3):
        with killed_at(change) as died:
            remove_run(tmp_path / "lm")
        killed = died()
        remove_run(tmp_path / "lm")
        assert [path.name for path in tmp_path.iterdir()] == ["keep"]
        if not killed:
            return
        for name in ("lm", "lm.training"):
            shutil.copytree(keep / name, tmp_path / name)
    raise AssertionError("it never ended")
