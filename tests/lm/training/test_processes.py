"""One process, two or four: the same run, whoever goes on with it, and errors told once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import asrprune
from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.lm.state_file import read_state_file
from asrprune.lm.training.distributed import ProcessGroup
from asrprune.lm.training.train import train
from asrprune.prune.run.family import read_family
from asrprune.text.corpus import open_corpus
from asrprune.text.pack import pack_corpus
from asrprune.text.sentencepiece import TokenizerConfig
from tests.lm.training.processes import CONFIG, KILLED, PLANS, TRAININGS, all_runs
from tests.lm.training.test_training import log_of, write_masked, write_text, zeros_of

pytestmark = pytest.mark.slow
NEAR, BF16 = 2e-5, 5e-3
"""Relative difference of losses, perplexities and gradient norms from the order of sums alone, in
float32 and with matrix products in bf16."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where 4 processes, then 2, then one have made all runs, and what 4 and 2 had to say."""
    place = tmp_path_factory.mktemp("processes")
    text, valid = write_text(place / "train.txt", 0, 400), write_text(place / "valid.txt", 1, 40)
    data = pack_corpus([text], valid, TokenizerConfig(40, "bpe"), place / "data")
    train(data, CONFIG, place / "parent")
    write_masked(place / "parent", place / "masked")
    command = [sys.executable, "-m", "tests.lm.training.processes", str(place)]
    places = Path(asrprune.__file__).parents[1], Path(__file__).parents[3]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, places))
    others = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert others.returncode == 0, others.stderr
    all_runs(place, ProcessGroup())
    return place, others.stderr


def same_log(one: Path, other: Path, near: float) -> None:
    left, right = log_of(one), log_of(other)
    assert [sorted(record) for record in left] == [sorted(record) for record in right]
    for mine, theirs in zip(left, right):
        assert mine == pytest.approx(theirs, rel=near), mine["step"]


@pytest.mark.parametrize("kind", ["2/sharded", "4/replicated"])
@pytest.mark.parametrize("name", TRAININGS)
def test_the_number_of_processes_does_not_change_a_training(
    runs: tuple[Path, str], kind: str, name: str
) -> None:
    folder, _ = runs
    near = BF16 if TRAININGS[name].precision == "bf16" else NEAR
    same_log(folder / kind / name, folder / "1/replicated" / name, near)
    made, alone = (load_checkpoint(folder / one / name) for one in (kind, "1/replicated"))
    assert made.model.shape == alone.model.shape
    assert made.provenance["training"]["run"] == alone.provenance["training"]["run"]


@pytest.mark.parametrize("kind", ["2/sharded", "4/replicated"])
def test_zeros_stay_in_all_processes(runs: tuple[Path, str], kind: str) -> None:
    folder, _ = runs
    same_log(folder / kind / "masked", folder / "1/replicated/masked", NEAR)
    assert zeros_of(folder / kind / "masked") == zeros_of(folder / "masked") != {}


@pytest.mark.parametrize("name", KILLED)
def test_a_training_goes_on_with_fewer_processes(runs: tuple[Path, str], name: str) -> None:
    folder, _ = runs
    same_log(folder / name, folder / "1/replicated" / name, NEAR)


def test_a_process_that_is_killed_ends_all_and_the_run_goes_on(runs: tuple[Path, str]) -> None:
    folder, said = runs
    assert said.count("told: another process of this run ended") == 1, said
    assert "gloo" not in said  # what the others met
    assert not (folder / "died").exists()
    train(open_corpus(folder / "data"), TRAININGS["gpt2 adamw"], folder / "died")
    same_log(folder / "died", folder / "1/replicated/gpt2 adamw", NEAR)


def test_bad_input_is_told_once(runs: tuple[Path, str]) -> None:
    found = [line for line in runs[1].splitlines() if line.startswith("asrprune train")]
    expected = "a folder written by `asrprune tokenize`"
    assert found == [f"asrprune train: none: no such folder; expected {expected}"]


@pytest.mark.parametrize("name", [*PLANS, "units from 4 to 2 to 1", "masks within"])
def test_a_family_is_that_of_one_process(runs: tuple[Path, str], name: str) -> None:
    folder, _ = runs
    other, _, resumed = name.partition(" ")
    made = folder / (other if resumed else f"2/{name}")
    alone = folder / f"1/{other}"
    ours, theirs = read_family(made).members, read_family(alone).members
    assert [one.matrices for one in ours] == [one.matrices for one in theirs]
    for mine, one in zip(ours, theirs):
        assert (mine.tokens, mine.steps) == (one.tokens, one.steps)
        assert mine.perplexity == pytest.approx(one.perplexity, rel=NEAR)
        left, right = (load_checkpoint(f / mine.folder).model.state_dict() for f in (made, alone))
        for key, value in left.items():
            assert torch.equal(value != 0, right[key] != 0)
    if resumed == "within":
        assert read_state_file(folder / "killed.pt")["within"]["begun"]["movement"]


LEAVING = """
import os
from pathlib import Path
from asrprune.lm.training.distributed import process_group

def threads():
    return {(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}

with process_group("cpu") as group:
    assert group.add(1.0) == [2.0]
    import torch.distributed.fsdp
    assert any("gloo" in name for name in threads())
left = [name for name in threads() if "gloo" in name]
assert not left, left
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads have names on Linux")
def test_no_thread_of_the_group_is_left(tmp_path: Path) -> None:
    """One that is left when the interpreter ends may abort a run that has done its work."""
    script = tmp_path / "leaving.py"
    script.write_text(LEAVING)
    argv = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*argv, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
