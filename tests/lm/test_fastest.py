"""What ``auto`` and ``fastest`` stand for: measured in turns, checked, remembered."""

from __future__ import annotations

import copy
import dataclasses
import fcntl
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from asrprune.cli import values
from asrprune.files.locks import LOCK, beside
from asrprune.lm import fastest
from asrprune.lm.engines import choice
from asrprune.lm.engines.choice import EXACT, MOST_TURNS, Choice, pick, take_turns
from asrprune.lm.engines.engine import GPU_TOKEN_BUDGET, EngineOptions
from asrprune.lm.engines.pytorch.engine import TorchEngine
from asrprune.lm.engines.table import ACCURACIES, CHOICES, ENGINES, EngineRow
from asrprune.lm.fastest import Sample, candidates, choose
from asrprune.lm.model.shapes import BlockShape, LinearShape, ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.open import open_model
from asrprune.lm.scoring.forests import ForestScorer, ScoringOptions
from tests.small_lm import DrawnTokenizer, drawn_model

CPU = EngineOptions(threads=1, device="cpu")
DENSE = ModelShape.uniform(9, 8, 1, 2, max_positions=12)
PRUNED = dataclasses.replace(
    DENSE, blocks=(BlockShape(1, 5, {"ffn.up": LinearShape("low_rank", 2)}),)
)
WIDE = ModelShape.uniform(64, 32, 2, 2, max_positions=12)
LLAMA = ModelShape.uniform(9, 8, 1, 2, max_positions=12, architecture="llama", kv_heads=1)
LISTS = [["3 4 5", "3 4", "6"], ["7 8 3 4 5", "7 8 4"]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(choice, "private_cache", lambda name: tmp_path)
    return tmp_path


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of each measurement, in which the last one is the fastest."""
    calls: list[list[str]] = []

    def turns(runs: Mapping[str, object], clock: object = None) -> dict[str, float]:
        if len(runs) > 1:  # not the pilot
            calls.append(list(runs))
        return {name: 1.0 / (place + 1) for place, name in enumerate(runs)}

    monkeypatch.setattr(fastest, "take_turns", turns)
    return calls


def chosen(asked: str = "auto", model: TransformerLM | None = None, threads: int = 1) -> Choice:
    model = model or drawn_model(DENSE)
    sample = Sample(LISTS, "lists")
    options = EngineOptions(threads=threads, device="cpu")
    return choose(asked, model, DrawnTokenizer(), options, ScoringOptions(), sample)


class Clock:
    """Time that goes on only while a run says so."""

    def __init__(self, seconds: Mapping[str, list[float]]) -> None:
        self.now = 0.0
        self.ran: list[str] = []
        self.runs = {name: lambda name=name: self._run(name) for name in seconds}
        self._left: dict[str, Iterator[float]] = {k: iter(v) for k, v in seconds.items()}

    def _run(self, name: str) -> np.ndarray:
        self.ran.append(name)
        self.now += next(self._left[name])
        return np.zeros(1)


def test_turns_drop_the_hopeless_and_take_the_least() -> None:
    slow_once = [0.01, 0.05, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01]
    clock = Clock(
        {"slow": [0.021], "late": [0.019] * 2, "one": slow_once, "other": [0.011] * MOST_TURNS}
    )
    found = take_turns(clock.runs, clock=lambda: clock.now)
    first = ["slow", "late", "one", "other", "late", "one", "other"]
    assert clock.ran == first + ["one", "other"] * (MOST_TURNS - 2)
    assert found == pytest.approx({"slow": 0.021, "late": 0.019, "one": 0.01, "other": 0.011})
    assert pick(found) == "one"


@pytest.mark.parametrize(("seconds", "turns"), [(0.2, 5), (2.0, 1), (0.001, MOST_TURNS)])
def test_turns_end_in_time(seconds: float, turns: int) -> None:
    clock = Clock({name: [seconds] * MOST_TURNS for name in "ab"})
    take_turns(clock.runs, clock=lambda: clock.now)
    assert clock.ran == ["a", "b"] * turns


def test_every_engine_has_an_accuracy_class_and_every_choice_a_name() -> None:
    assert {row.accuracy for row in ENGINES.values()} <= set(ACCURACIES)
    assert set(CHOICES.values()) == set(ACCURACIES)
    assert not set(CHOICES) & set(ENGINES)
    assert {values.engine(name) for name in CHOICES} == set(CHOICES)


def test_auto_takes_only_what_keeps_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    names, others = candidates("auto", "cpu")
    assert names[0] == "torch"
    assert {ENGINES[name].accuracy for name in names} == {"float32"}
    assert "torch-compile" in others
    assert {ENGINES[name].accuracy for name in candidates("fastest-bf16", "cpu")[0]} == {
        "float32",
        "bf16",
    }
    every = candidates("fastest", "cpu")[0]
    assert {"torch", "torch-bf16", "int8"} <= set(every)
    classes = [list(ACCURACIES).index(ENGINES[name].accuracy) for name in every]
    assert classes == sorted(classes)
    monkeypatch.setattr(fastest.importlib.util, "find_spec", lambda name: None)
    names, others = candidates("auto", "cpu")
    assert "onnx" not in names
    assert others["onnx"] == "onnx and onnxruntime not installed"


@pytest.mark.parametrize("shape", [DENSE, PRUNED, LLAMA], ids=["dense", "pruned", "llama"])
@pytest.mark.parametrize("asked", ["auto", "fastest"])
def test_scores_stay_within_the_class(
    asked: str, shape: ModelShape, measured: list[list[str]]
) -> None:
    pytest.importorskip("onnxruntime")
    model = drawn_model(shape)
    with torch.no_grad():
        model.embedding.output_weight.mul_(3.0)
        for _, linear in model.linears():
            for weight in linear.parameters():
                weight[torch.rand_like(weight) < 0.5] = 0.0
    sample = Sample(LISTS, "lists")
    found = open_model(model, DrawnTokenizer(), asked, CPU, sample=sample)
    assert found.runtime.choice is not None
    assert found.runtime.engine == found.runtime.choice["engine"] == measured[0][-1]
    exact = open_model(model, DrawnTokenizer(), "torch", CPU).score_lists(LISTS)
    apart = np.abs(np.concatenate(found.score_lists(LISTS)) - np.concatenate(exact))
    if asked == "auto":
        assert measured == [candidates("auto", "cpu")[0]]
        assert apart.max() <= EXACT
    else:
        assert ENGINES[str(found.runtime.engine)].accuracy == ("bf16" if shape is LLAMA else "int8")
        reasons = found.runtime.choice["not_measured"]
        assert ("computes gpt2" in reasons["int8"]) if shape is LLAMA else "int8" not in reasons


def test_an_engine_that_is_not_exact_is_refused(
    measured: list[list[str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def off_by(scale: float) -> EngineRow:
        def make(model: TransformerLM, options: EngineOptions, tokenizer: object) -> TorchEngine:
            other = drawn_model(DENSE)
            with torch.no_grad():
                other.embedding.output_weight.mul_(scale)
            return TorchEngine(other, torch.float32, options)

        return EngineRow(make, "off", "float32")

    def broken(model: TransformerLM, options: EngineOptions, tokenizer: object) -> TorchEngine:
        raise RuntimeError("no such instruction")

    made = {"near": off_by(1.00001), "off": off_by(1.2), "broken": EngineRow(broken, "", "int8")}
    for name, row in made.items():
        monkeypatch.setitem(ENGINES, name, row)  # type: ignore[arg-type]
    for asked in ("fastest", "auto"):
        found = chosen(asked)
        assert "off" not in found.speeds
        assert "nats from torch" in found.not_measured["off"]
    assert found.engine == "near"
    assert 0 < found.differences["near"] < EXACT
    assert caplog.text.count("engine off is not taken: its scores are up to") == 2
    assert chosen("fastest").not_measured["broken"] == "no such instruction"


def test_a_choice_is_remembered(
    measured: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    first = chosen()
    again = chosen()
    assert len(measured) == 1
    assert dataclasses.replace(first, remembered=True) == again
    assert f"engine {first.engine} (auto: {first.speeds[first.engine]:.1f} x torch" in caplog.text
    assert "measured on" in str(first)
    assert "remembered from" in str(again)
    assert "hypotheses of lists" in str(first)
    chosen(model=drawn_model(PRUNED))
    chosen(threads=2)
    chosen("fastest")
    monkeypatch.setattr(fastest, "processor", lambda: "another")
    chosen()
    assert len(measured) == 5
    assert len(list(folder.iterdir())) == 5


def scaled(times: float) -> TransformerLM:
    model = drawn_model(DENSE)
    with torch.no_grad():
        model.embedding.output_weight.mul_(times)
    return model


@pytest.fixture
def rounded(monkeypatch: pytest.MonkeyPatch) -> list[TransformerLM]:
    """An engine ``near`` that is the fastest, and exact for small scores only; what it was made
    for."""
    made = []

    def make(model: TransformerLM, options: EngineOptions, tokenizer: object) -> TorchEngine:
        made.append(model)
        other = copy.deepcopy(model)
        with torch.no_grad():
            other.embedding.output_weight.mul_(1.00001)
        return TorchEngine(other, torch.float32, options)

    monkeypatch.setitem(ENGINES, "near", EngineRow(make, "near", "float32"))
    return made


def test_a_choice_of_another_lm_is_checked_for_this_one(
    measured: list[list[str]], rounded: list[TransformerLM], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = chosen()
    assert first.engine == "near"
    other = chosen(model=scaled(2.0))
    assert (other.engine, other.remembered, len(measured)) == ("near", True, 1)
    assert set(other.differences) == {"near"}  # its own, not those of the first
    assert other.differences["near"] > first.differences["near"] > 0
    assert other.weights_sha256 != first.weights_sha256
    assert len(rounded) == 2
    assert chosen(model=scaled(2.0)) == other
    assert len(rounded) == 2  # not checked twice

    far = chosen(model=scaled(1000.0))
    assert "near" not in far.speeds
    assert "nats from torch" in far.not_measured["near"]
    assert not far.remembered
    assert len(measured) == 2
    assert chosen(model=scaled(1000.0)) == dataclasses.replace(far, remembered=True)
    assert len(measured) == 2
    assert chosen() == dataclasses.replace(first, remembered=True)


def test_a_choice_that_weights_have_narrowed_is_of_them_alone(
    measured: list[list[str]], rounded: list[TransformerLM]
) -> None:
    assert "near" not in chosen(model=scaled(1000.0)).speeds
    assert chosen().engine == "near"
    assert "near" not in chosen(model=scaled(1000.0)).speeds
    assert len(measured) == 2


def test_of_two_lms_at_once_none_takes_what_was_not_checked_for_it(
    measured: list[list[str]], rounded: list[TransformerLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = chosen()
    monkeypatch.setattr(fastest, "remembered", lambda key, kind: None)  # as both begin
    other = chosen(model=scaled(2.0))
    assert other.weights_sha256 != first.weights_sha256
    assert (other.remembered, len(measured)) == (False, 2)


def zeroed(kind: str) -> TransformerLM:
    """With half of all matrices zero, by weights or blocks of 4 outputs; or half of those of one
    kind."""
    model, draw = drawn_model(WIDE), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for place, linear in model.linears():
            height = 4 if kind == "blocks" else 1
            rows, columns = linear.weight.shape
            keep = torch.rand(rows // height, columns, generator=draw) < 0.5
            if kind in ("weights", "blocks", place.name):
                linear.weight.mul_(keep.repeat_interleave(height, dim=0))
    return model


@pytest.mark.parametrize(
    ("first", "second"),
    [("weights", "blocks"), ("ffn.up", "ffn.down")],
)
def test_a_choice_is_of_where_the_zeros_are(
    first: str, second: str, measured: list[list[str]]
) -> None:
    chosen(model=zeroed(first))
    again = zeroed(first)
    with torch.no_grad():
        for _, linear in again.linears():
            linear.weight.mul_(1.01)
    assert chosen(model=again).remembered  # fine-tuned
    assert not chosen(model=zeroed(second)).remembered
    assert len(measured) == 2


@pytest.mark.parametrize("damage", ["{", "[]", '{"key": {}}', "other", "engine"])
def test_what_does_not_belong_there_is_ignored(
    damage: str, measured: list[list[str]], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = chosen()
    (path,) = folder.iterdir()
    there = json.loads(path.read_text())
    if damage == "engine":
        del there["crc32"]
        there["found"]["engine"] = "none"
        path.write_text(json.dumps(there))
    elif damage == "other":
        path.chmod(0o666)
    else:
        path.write_text(damage)
    assert chosen() == first
    assert len(measured) == 2
    assert f"{path} is ignored: " in caplog.text
    caplog.clear()
    assert chosen().remembered
    assert not caplog.text


def test_of_two_at_once_the_first_decides(
    measured: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fastest, "remembered", lambda key, kind: None)  # as both begin
        first = chosen()
        patch.setattr(fastest, "pick", lambda seconds: "torch")
        second = chosen()
    assert len(measured) == 2
    assert second == dataclasses.replace(first, remembered=True)


@pytest.mark.parametrize("ends", [True, False])
def test_a_choice_that_another_process_is_writing_is_waited_for(
    ends: bool,
    measured: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = chosen()
    (path,) = folder.iterdir()
    theirs = path.read_text()
    path.unlink()
    lock = beside(path, LOCK).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)

    def end() -> None:
        path.write_text(theirs)
        path.chmod(0o600)
        lock.close()

    monkeypatch.setattr(choice, "PATIENCE_S", 60.0 if ends else -1.0)
    monkeypatch.setattr(fastest, "pick", lambda seconds: "torch")
    timer = threading.Timer(0.3, end)
    if ends:
        timer.start()
    found = chosen()
    timer.join() if ends else lock.close()
    assert len(measured) == 2
    assert (found == dataclasses.replace(first, remembered=True)) == ends
    assert ("is writing it" in caplog.text) != ends


def test_where_nothing_can_be_kept_it_is_measured_anew(
    measured: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "private_cache", lambda name: None)
    assert chosen() == chosen()
    assert len(measured) == 2


def test_without_lists_tries_are_drawn(measured: list[list[str]]) -> None:
    model = drawn_model(DENSE)
    found = choose("auto", model, DrawnTokenizer(), CPU, ScoringOptions())
    assert found.sample.endswith("hypotheses of drawn tries of 50-best lists")
    empty = Sample([[], []], "empty")
    assert choose("auto", model, DrawnTokenizer(), CPU, ScoringOptions(), empty).speeds
    long = Sample([[" ".join("3" * 50)]], "long")
    assert choose("auto", model, DrawnTokenizer(), CPU, ScoringOptions(), long).speeds


@pytest.mark.parametrize(("device", "lists"), [("cpu", 6), ("cuda:0 (a GPU)", 64)])
def test_a_gpu_is_measured_on_half_a_pass(
    device: str, lists: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastest, "take_turns", lambda runs: dict.fromkeys(runs, 1.0))
    monkeypatch.setattr(fastest, "_scores", lambda scorer, forest: np.zeros(1))
    engine = TorchEngine(drawn_model(DENSE), torch.float32, CPU)
    monkeypatch.setattr(TorchEngine, "device", device)
    reference = ForestScorer(engine, DrawnTokenizer(), DENSE.max_positions)
    same = [list(range(3, 3 + GPU_TOKEN_BUDGET // 128 - 1))]  # with <s> a node a token
    found = fastest.first_lists(reference, [same] * 100, (0.0, 9.0), 6 * GPU_TOKEN_BUDGET // 128)
    assert len(found) == lists


def test_a_calibration_text_is_refused() -> None:
    with pytest.raises(ValueError, match="engine fastest calibrates nothing"):
        open_model(drawn_model(DENSE), DrawnTokenizer(), "fastest", EngineOptions(calibration="x"))
