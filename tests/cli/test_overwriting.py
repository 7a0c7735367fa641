"""What another run left at --out stays, unless --force."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from asrprune.cli.main import main
from asrprune.core.config import flat
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.firstpass.formats.jsonl import write_nbest
from asrprune.lm.training.config import MEANINGS, TrainingConfig
from tests.small_lm import SENTENCES


def call(*argv: object) -> int:
    return main([str(one) for one in argv])


@pytest.fixture(name="text")
def _text(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    path.write_text("".join(f"{sentence}\n" for sentence in SENTENCES))
    return path


def test_tokenize_and_convert_replace_nothing(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, lists, out = tmp_path / "data", tmp_path / "lists", tmp_path / "lattices"
    write_nbest(lists, [NBest("u", (Hypothesis("a", -1.0),))])
    tokenize = ("tokenize", "--text", text, "--vocab-size", 18, "--out", data)
    convert = ("convert", "--from", "jsonl", "--to", "slf", lists, "--out", out)
    for command, place in ((tokenize, data), (convert, out)):
        place.mkdir()
        (place / "mine").touch()
        assert call(*command) == 1
        error = capsys.readouterr().err
        assert f"{place}: a folder that is not empty" in error
        assert "expected a new --out, or --force to replace it" in error
        assert (place / "mine").exists()
        assert call(*command, "--force") == 0
        assert not (place / "mine").exists()


def test_force_replaces_no_folder_with_folders_in_it(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, lists = tmp_path / "home", tmp_path / "lists"
    (home / "mine").mkdir(parents=True)
    write_nbest(lists, [NBest("u", (Hypothesis("a", -1.0),))])
    tokenize = ("tokenize", "--text", text, "--vocab-size", 18, "--out", home)
    for command in (tokenize, ("convert", "--from", "jsonl", "--to", "slf", lists, "--out", home)):
        assert call(*command, "--force") == 1
        assert f"{home}: a folder with the folder mine in it; expected" in capsys.readouterr().err
        assert (home / "mine").is_dir()


def test_train_goes_on_with_its_own_run_and_replaces_another_by_force(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = tmp_path / "data", tmp_path / "lm"
    assert call("tokenize", "--text", text, "--vocab-size", 18, "--out", data) == 0
    small = ("model.d_model=8", "model.n_layers=1", "model.n_heads=2", "max_steps=1")
    sets = [part for one in (*small, "tokens_per_batch=300") for part in ("--set", one)]
    train = ("train", "--data", data, "--out", out, "--device", "cpu", *sets)
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    assert call(*train, "--threads", 3) == 0
    assert chosen == [3]
    weights = (out / "model.safetensors").read_bytes()
    assert call(*train) == 0  # finished already
    assert call(*train, "--set", "seed=2") == 2
    assert "belongs to another run" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == weights
    assert call(*train, "--set", "seed=2", "--force") == 0
    assert (out / "model.safetensors").read_bytes() != weights
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").touch()
    assert call(*train, "--force", "--out", other) == 2  # no LM: force does not remove it
    assert (other / "mine").exists()


def test_the_help_of_train_has_every_key_with_its_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    defaults = flat(TrainingConfig())
    assert list(MEANINGS) == list(defaults)
    with pytest.raises(SystemExit):
        call("train", "--help")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for key, value in defaults.items():
        (line,) = (line for line in lines if line and line[0].startswith(f"{key}="))
        assert line[0] == f"{key}={json.dumps(value)}"
        assert len(line) > 1
