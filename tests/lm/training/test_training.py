"""Training runs: learning, resuming, refusing."""

from __future__ import annotations

import json
import logging
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from asrprune.errors import InputError
from asrprune.lm.model import transformer
from asrprune.lm.model.checkpoint import load_checkpoint, save_checkpoint
from asrprune.lm.model.elastic import Elastic
from asrprune.lm.training import train as training_module
from asrprune.lm.training.config import ModelConfig, TrainingConfig
from asrprune.lm.training.loop import TrainingLoop
from asrprune.lm.training.optimizers import OptimizerConfig
from asrprune.lm.training.train import train
from asrprune.text.corpus import Corpus
from asrprune.text.pack import pack_corpus
from asrprune.text.sentencepiece import TokenizerConfig
from tests.quick import slow

CONFIG = TrainingConfig(
    ModelConfig(d_model=16, n_layers=1, n_heads=2, max_positions=64, dropout=0.1),
    OptimizerConfig(lr=0.01, muon_lr=0.02, warmup_steps=4),
    tokens_per_batch=128,
    max_steps=24,
    precision="fp32",
    valid_steps=6,
    save_steps=5,
    log_steps=1,
)


def write_text(path: Path, seed: int, n: int) -> Path:
    """Sentences of a tiny grammar: subject, verb, object."""
    draw = random.Random(seed)
    subjects, verbs, objects = ["god", "man", "light"], ["made", "saw"], ["the earth", "the sea"]
    lines = (" ".join(map(draw.choice, (subjects, verbs, objects))) for _ in range(n))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("training")
    train_text = write_text(folder / "train.txt", 0, 400)
    valid_text = write_text(folder / "valid.txt", 1, 40)
    return pack_corpus([train_text], valid_text, TokenizerConfig(40, "bpe"), folder / "data")


TIMES = ("wall_s", "tokens_per_s", "crc32")
"""Keys of the log that differ between two runs, and the checksum, which is of them too."""


def log_of(out: Path) -> list[dict[str, Any]]:
    """The log without times."""
    lines = (out.parent / f"{out.name}.training" / "train.jsonl").read_text().splitlines()
    timeless = []
    for line in lines:
        record = json.loads(line)
        timeless.append({k: v for k, v in record.items() if k not in TIMES})
    return timeless


def same_weights(one: Path, other: Path) -> bool:
    left = load_checkpoint(one).model.state_dict()
    right = load_checkpoint(other).model.state_dict()
    return all(torch.equal(value, right[key]) for key, value in left.items())


class Killed(Exception):
    """Stands for a kill."""


def kill_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = TrainingLoop.step

    def step(loop: TrainingLoop) -> Any:
        if loop.steps == steps:
            raise Killed
        return real(loop)

    monkeypatch.setattr(training_module.TrainingLoop, "step", step)


def test_learns_and_writes_the_best_model(data: Corpus, tmp_path: Path) -> None:
    config = replace(CONFIG, max_steps=80)
    out = train(data, config, tmp_path / "lm", command_line=["asrprune", "train"])
    records = [record for record in log_of(out) if "valid_ppl_word" in record]
    assert [record["step"] for record in records] == [*range(6, 80, 6), 80]
    best = min(record["valid_ppl_token"] for record in records)
    assert best < 0.3 * records[0]["valid_ppl_token"]
    # the grammar has 12 sentences of 5 events (with </s>): 12 ** (1 / 5) = 1.64
    assert 1.6 < min(record["valid_ppl_word"] for record in records) < 2.5
    loaded = load_checkpoint(out)
    assert loaded.tokenizer_sha256 == data.data["tokenizer_sha256"]
    facts = loaded.provenance["training"]
    assert facts["valid_ppl_token"] == pytest.approx(best)
    assert facts["run"]["config"]["max_steps"] == 80
    assert facts["tokens"] == log_of(out)[-2]["tokens"]
    assert loaded.provenance["command"] == "asrprune train"
    assert not (tmp_path / "lm.training" / "state.pt").exists()


def test_activations_made_again_train_the_same_model(
    data: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = train(data, replace(CONFIG, max_steps=4), tmp_path / "kept")
    real, made = transformer._made_again, []
    monkeypatch.setattr(transformer, "_made_again", lambda *args: made.append(1) or real(*args))
    config = replace(CONFIG, max_steps=4, checkpoint_activations=True)
    again = train(data, config, tmp_path / "again")
    assert len(made) == 4
    left, right = (load_checkpoint(path).model.state_dict() for path in (kept, again))
    for name, value in left.items():
        torch.testing.assert_close(right[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("killed_after", [12, *slow([3, 23])])
def test_killed_run_ends_with_the_same_model(
    data: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    whole = train(data, CONFIG, tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_after(killed_after, patch)
        with pytest.raises(Killed):
            train(data, CONFIG, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    again = train(data, CONFIG, tmp_path / "again")
    assert log_of(again) == log_of(whole)
    assert same_weights(again, whole)


@pytest.mark.slow
def test_killed_while_writing_the_result(
    data: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(training_module._Run, "finish", die)
        with pytest.raises(Killed):
            train(data, CONFIG, tmp_path / "again")
    again = train(data, CONFIG, tmp_path / "again")
    assert same_weights(again, train(data, CONFIG, tmp_path / "whole"))


def test_finished_run_is_left_alone(
    data: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(CONFIG, max_steps=2)
    out = train(data, config, tmp_path / "lm")
    before = (out / "config.json").read_bytes()
    with caplog.at_level(logging.INFO):
        assert train(data, config, out) == out
    assert "finished already, nothing to do" in caplog.text
    assert (out / "config.json").read_bytes() == before
    with pytest.raises(ValueError, match=r"config.max_steps is 2 there, 3 now"):
        train(data, replace(config, max_steps=3), out)


def test_changed_configuration_is_refused(
    data: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_after(6, patch)
        with pytest.raises(Killed):
            train(data, CONFIG, tmp_path / "lm")
    other = replace(CONFIG, optimizer=replace(CONFIG.optimizer, lr=0.5))
    with pytest.raises(ValueError, match=r"config.optimizer.lr is 0.01 there, 0.5 now"):
        train(data, other, tmp_path / "lm")


@pytest.mark.parametrize("kept", [100, *slow([0, 5000])])
def test_a_damaged_state_starts_anew(
    data: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kept: int,
) -> None:
    with monkeypatch.context() as patch:
        kill_after(12, patch)
        with pytest.raises(Killed):
            train(data, CONFIG, tmp_path / "lm")
    state = tmp_path / "lm.training" / "state.pt"
    state.write_bytes(state.read_bytes()[:kept])
    again = train(data, CONFIG, tmp_path / "lm")
    assert "state.pt is damaged" in caplog.text
    whole = train(data, CONFIG, tmp_path / "whole")
    assert log_of(again) == log_of(whole)
    assert same_weights(again, whole)


def test_a_model_of_no_training_run_is_another_run(data: Corpus, tmp_path: Path) -> None:
    out = train(data, replace(CONFIG, max_steps=2), tmp_path / "lm")
    config = json.loads((out / "config.json").read_text())
    del config["provenance"]["training"], config["crc32"]
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"lm belongs to another run: config is not given there"):
        train(data, replace(CONFIG, max_steps=2), out)


def test_other_things_at_out_are_never_replaced(data: Corpus, tmp_path: Path) -> None:
    (tmp_path / "lm").mkdir()
    with pytest.raises(ValueError, match="exists and is no checkpoint"):
        train(data, CONFIG, tmp_path / "lm")


def test_worse_last_model_is_kept_apart(
    data: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = training_module.stream_nll
    rising = iter(range(1, 10))
    monkeypatch.setattr(
        training_module, "stream_nll", lambda *given: real(*given) * 0.0 + next(rising)
    )
    out = train(data, replace(CONFIG, max_steps=12), tmp_path / "lm")
    assert load_checkpoint(out).provenance["training"]["step"] == 6
    last = load_checkpoint(tmp_path / "lm.training" / "last")
    assert last.provenance["training"]["step"] == 12
    assert not same_weights(out, tmp_path / "lm.training" / "last")


def test_initial_checkpoint(data: Corpus, tmp_path: Path) -> None:
    first = train(data, replace(CONFIG, max_steps=2), tmp_path / "first")
    still = OptimizerConfig(lr=0.0, muon_lr=0.0)
    config = replace(CONFIG, model=ModelConfig(), optimizer=still, max_steps=1)
    second = train(data, config, tmp_path / "second", load_checkpoint(first))
    assert same_weights(first, second)
    with pytest.raises(ValueError, match="its own shape"):
        train(data, CONFIG, tmp_path / "third", load_checkpoint(first))
    other = write_text(tmp_path / "other.txt", 5, 50)
    elsewhere = pack_corpus([other], None, TokenizerConfig(30, "bpe"), tmp_path / "elsewhere")
    with pytest.raises(InputError, match="another tokenizer"):
        train(elsewhere, config, tmp_path / "fourth", load_checkpoint(first))


def write_masked(parent: Path, out: Path) -> Path:
    """``parent`` with every third weight of its matrices zero, as pruning leaves them."""
    checkpoint = load_checkpoint(parent)
    with torch.no_grad():
        for parameter in checkpoint.model.parameters():
            if parameter.ndim == 2:
                parameter.view(-1)[::3] = 0.0
    step = {"criterion": "magnitude", "method": "unstructured", "masks": True}
    tokenizer = checkpoint.tokenizer_path
    return save_checkpoint(out, checkpoint.model, tokenizer, {}, (step,), checkpoint.form)


def zeros_of(lm: Path) -> dict[str, list[int]]:
    """Where the matrices of ``lm`` that have zeros have them."""
    weights = load_checkpoint(lm).model.state_dict()
    places = {
        name: torch.nonzero(value.flatten() == 0).flatten().tolist()
        for name, value in weights.items()
        if value.ndim == 2
    }
    return {name: found for name, found in places.items() if found}


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_zeros_of_a_pruned_lm_stay(data: Corpus, tmp_path: Path, optimizer: str) -> None:
    first = train(data, replace(CONFIG, max_steps=2), tmp_path / "first")
    masked = write_masked(first, tmp_path / "masked")
    config = replace(CONFIG, model=ModelConfig(), max_steps=6)
    config = replace(config, optimizer=replace(CONFIG.optimizer, optimizer=optimizer))
    made = train(data, config, tmp_path / "made", load_checkpoint(masked))
    assert zeros_of(made) == zeros_of(masked) != {}
    assert not same_weights(made, masked)
    assert load_checkpoint(made).history == load_checkpoint(masked).history


def test_the_history_of_a_pruned_lm_stays(data: Corpus, tmp_path: Path) -> None:
    first = load_checkpoint(train(data, replace(CONFIG, max_steps=2), tmp_path / "first"))
    step = {"method": "structured", "masks": False, "reference": {"0.up": 4096}}
    pruned = replace(first, history=(step,))
    config = replace(CONFIG, model=ModelConfig(), max_steps=2)
    made = load_checkpoint(train(data, config, tmp_path / "made", pruned))
    assert made.history == (step,)


def test_an_elastic_lm_is_trained_as_its_largest(
    data: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = load_checkpoint(train(data, replace(CONFIG, max_steps=2), tmp_path / "first"))
    elastic = replace(first, elastic=Elastic((0.0,), 1, 1, 1, {}, ""))
    config = replace(CONFIG, model=ModelConfig(), max_steps=2)
    train(data, config, tmp_path / "made", elastic)
    assert "holds LMs of several sizes; the trained one is its largest" in caplog.text


def test_without_validation_and_budget_one_pass(data: Corpus, tmp_path: Path) -> None:
    text = write_text(tmp_path / "text", 3, 60)
    packed = pack_corpus([text], None, TokenizerConfig(40, "bpe"), tmp_path / "data")
    out = train(packed, replace(CONFIG, max_steps=None), tmp_path / "lm")
    stream = packed.stream("train")
    assert log_of(out)[-1]["tokens"] == stream.n_tokens + stream.n_sentences


def test_validation_set_that_does_not_fit(data: Corpus, tmp_path: Path) -> None:
    long = tmp_path / "long"
    long.write_text("god made the earth " * 20 + "\n")
    text = write_text(tmp_path / "text", 3, 60)
    packed = pack_corpus([text], long, TokenizerConfig(40, "bpe"), tmp_path / "data")
    with pytest.raises(InputError, match="no valid sentence that fits"):
        train(packed, CONFIG, tmp_path / "lm")


def test_tensorboard(data: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(data, replace(CONFIG, max_steps=2), tmp_path / "lm", tensorboard=True)
    assert list((tmp_path / "lm.training" / "tensorboard").iterdir())


@pytest.mark.parametrize(
    "bad",
    [{"tokens_per_batch": 0}, {"max_steps": 0}, {"seed": -1}, {"precision": "half"}],
)
def test_bad_config(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        replace(CONFIG, **bad)
