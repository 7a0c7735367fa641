"""``asrprune train`` as users run it: killed, resumed, in several processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asrprune.cli.main import main
from asrprune.lm.model.checkpoint import load_checkpoint

SETTINGS = [
    "model.d_model=16",
    "model.n_layers=1",
    "model.max_positions=64",
    "tokens_per_batch=128",
    "max_steps=8",
    "valid_steps=4",
    "log_steps=1",
    "save_steps=2",
    "precision=fp32",
]


def flags(*settings: str) -> list[str]:
    return [part for setting in (*SETTINGS, *settings) for part in ("--set", setting)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train_cli")
    draw = random.Random(0)
    words = ["in", "the", "beginning", "god", "created", "heaven", "and", "earth"]
    lines = [" ".join(draw.choices(words, k=draw.randint(1, 8))) for _ in range(300)]
    (folder / "train.txt").write_text("\n".join(lines) + "\n")
    (folder / "valid.txt").write_text("\n".join(lines[:20]) + "\n")
    argv = ["tokenize", "--text", str(folder / "train.txt"), "--valid", str(folder / "valid.txt")]
    argv += ["--vocab-size", "40", "--model-type", "bpe", "--out", str(folder / "data")]
    assert main(argv) == 0
    return folder / "data"


def losses(out: Path) -> list[float]:
    lines = (out.with_name(out.name + ".training") / "train.jsonl").read_text().splitlines()
    return [record["loss"] for record in map(json.loads, lines) if "loss" in record]


def test_config_file_and_settings(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.json"
    config.write_text('{"model": {"d_model": 8}, "max_steps": 3}')
    out = tmp_path / "lm"
    argv = ["train", "--data", str(data), "--config", str(config), "--out", str(out)]
    assert main([*argv, "--set", "model.d_model=12", "--set", "tokens_per_batch=300"]) == 0
    checkpoint = load_checkpoint(out)
    assert checkpoint.model.shape.d_model == 12
    assert checkpoint.provenance["training"]["steps"] == 3
    assert checkpoint.provenance["command"].startswith("asrprune train --data")


@pytest.mark.parametrize(
    ("settings", "status", "message"),
    [
        (["max_step=3"], 2, "did you mean 'max_steps'"),
        (["optimizer.lr=fast"], 2, "expected float"),
        (["model.n_heads=3"], 2, "not a multiple of n_heads 3"),
        (["tokens_per_batch=5"], 2, "tokens_per_batch is 5; expected"),
        (["optimizer.optimizer=sgd"], 2, "unknown optimizer 'sgd'"),
    ],
)
def test_bad_settings(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    status: int,
    message: str,
) -> None:
    argv = ["train", "--data", str(data), "--out", str(tmp_path / "lm"), *flags(*settings)]
    assert main(argv) == status
    assert message in capsys.readouterr().err
    assert not (tmp_path / "lm").exists()


def test_bad_files(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "train.json"
    config.write_text('{"model": {"d_model": "8"}}')
    argv = ["train", "--out", str(tmp_path / "lm")]
    assert main([*argv, "--data", str(data), "--config", str(config)]) == 1
    assert 'train.json: model.d_model is "8"; expected int' in capsys.readouterr().err
    assert main([*argv, "--data", str(tmp_path)]) == 1
    assert main([*argv, "--data", str(data), "--init", str(tmp_path)]) == 1


def test_a_shape_has_no_use_with_another_model(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "train.json"
    config.write_text('{"model": {}}')
    argv = ["train", "--data", str(data), "--out", str(tmp_path / "lm"), "--init", str(tmp_path)]
    assert main([*argv, "--set", "model.d_model=256"]) == 2  # the default
    assert "--set model.d_model=256 has no use with --init" in capsys.readouterr().err
    assert main([*argv, "--config", str(config)]) == 2
    assert "train.json has no use with --init" in capsys.readouterr().err


def run_train(data: Path, out: Path, launcher: list[str], *settings: str) -> subprocess.Popen[str]:
    argv = [*launcher, "-m", "asrprune", "train", "--data", str(data), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*argv, *flags(*settings)], env=environment, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, log = process.communicate(timeout=300)
    assert process.returncode == 0, log


@pytest.mark.slow
def test_killed_by_the_system_and_started_again(data: Path, tmp_path: Path) -> None:
    settings = ["max_steps=300", "model.dropout=0.1", "save_steps=7", "valid_steps=50"]
    finish(run_train(data, tmp_path / "whole", [sys.executable], *settings))
    killed = run_train(data, tmp_path / "lm", [sys.executable], *settings)
    log = tmp_path / "lm.training" / "train.jsonl"
    deadline = time.monotonic() + 120
    while not (log.is_file() and len(log.read_text().splitlines()) > 20):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "lm").exists()
    finish(run_train(data, tmp_path / "lm", [sys.executable], *settings))
    assert losses(tmp_path / "lm") == losses(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_make_the_run_of_one(data: Path, tmp_path: Path) -> None:
    settings = ["model.dropout=0.1", "optimizer.optimizer=adamw", "accumulation=2"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    one, two = tmp_path / "one", tmp_path / "two"
    finish(run_train(data, one, [sys.executable], *settings))
    finish(run_train(data, two, launcher, *settings))
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    facts = [load_checkpoint(out).provenance["training"] for out in (one, two)]
    assert facts[0]["tokens"] == facts[1]["tokens"]
    assert [fact["processes"] for fact in facts] == [1, 2]
    perplexities = [fact["valid_ppl_token"] for fact in facts]
    assert perplexities[0] == pytest.approx(perplexities[1], rel=1e-4)


def test_another_run_at_out_is_status_2_and_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", "--data", str(data), "--out", str(tmp_path / "lm"), *flags("max_steps=1")]
    assert main(argv) == 0
    capsys.readouterr()
    assert main([*argv, "--set", "seed=7"]) == 2
    found = "lm belongs to another run: config.seed is 1 there, 7 now; remove it or choose another"
    error = capsys.readouterr().err
    assert found in error
    assert error.count("\n") == 1
