"""``size="2x"``: the size of an elastic LM that is so many times as fast as the whole of it."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import asrprune
from asrprune.api.example import tiny_lm
from asrprune.cli.engine_flags import settle_speed
from asrprune.cli.main import main
from asrprune.errors import InputError
from asrprune.lm import elastic_speed
from asrprune.lm.elastic_speed import SIZES, SpeedCurve, sparsity_at_speed
from asrprune.lm.engines import choice
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.model.checkpoint import elastic_of
from asrprune.lm.scoring.forests import ForestScorer
from asrprune.rescore.scores_file import read_scores
from tests.small_inputs import save_small_elastic

ONE = EngineOptions(threads=1, device="cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_small_elastic(tmp_path_factory.mktemp("elastic"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(choice, "private_cache", lambda name: folder)
    return folder


@pytest.fixture
def clocks(
    place: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> list[Mapping[int, ForestScorer]]:
    """The measurements, in which a second goes by for each weight of the blocks."""
    calls: list[Mapping[int, ForestScorer]] = []
    elastic = elastic_of(place["elastic"])

    def seconds(scorers: Mapping[int, ForestScorer], lists: Any, clock: object) -> dict[int, float]:
        assert lists
        calls.append(scorers)
        return {cut: float(elastic.kept - elastic.saved[cut]) for cut in scorers}

    monkeypatch.setattr(elastic_speed, "least_seconds", seconds)
    return calls


def test_the_cut_is_the_nearest_that_is_so_fast(
    place: dict[str, Path], clocks: list[Mapping[int, ForestScorer]]
) -> None:
    path = place["elastic"]
    whole = asrprune.load_checkpoint(path, size=0.3).model
    work = sum(linear.weights for _, linear in whole.linears())
    for times in (1.0, 1.2, 1.35):
        sparsity = sparsity_at_speed(path, times, "torch", ONE)
        assert 0.3 <= sparsity <= 0.6
        cut = asrprune.load_checkpoint(path, size=sparsity).model
        speed = work / sum(linear.weights for _, linear in cut.linears())
        assert speed == pytest.approx(times, rel=0.03)  # some weights a step
    (scorers,) = clocks  # remembered from the first on
    assert (len(scorers), min(scorers), max(scorers)) == (SIZES, 0, elastic_of(path).steps)


def test_what_it_is_measured_for(
    place: dict[str, Path], clocks: list[Mapping[int, ForestScorer]]
) -> None:
    path = place["elastic"]
    sparsity_at_speed(path, 1.2, "torch", ONE)
    sparsity_at_speed(path, 1.2, "torch", EngineOptions(threads=2, device="cpu"))
    sparsity_at_speed(path, 1.2, "bf16", ONE)
    assert len(clocks) == 3
    sparsity_at_speed(path, 1.3, "bf16", ONE)
    assert len(clocks) == 3


def test_time_is_straight_between_measured_sizes_and_noise_is_not_followed() -> None:
    curve = SpeedCurve("torch", (0, 10, 20, 30), (1.0, 2.0, 1.9, 4.0))
    assert curve.steps_to(1.0) == 0
    assert curve.steps_to(4 / 3) == pytest.approx(5.0)  # 1, 3/4, 1/2 of the time
    assert curve.steps_to(3.0) == pytest.approx(20 + 10 * (1 / 2 - 1 / 3) / (1 / 2 - 1 / 4))
    assert curve.steps_to(4.004) == 30
    for times in (0.99, 4.01):
        with pytest.raises(ValueError, match=rf"size {times}x: this elastic LM is 1x to 4.00x as"):
            curve.steps_to(times)
    assert curve.steps_to(2.0) == 10  # the largest of those that are as fast
    flat = SpeedCurve("torch", (0, 10, 20, 30), (1.0, 0.95, 0.97, 1.2))
    assert flat.steps_to(1.0) == 0
    assert 20 < flat.steps_to(1.01) < 30
    assert SpeedCurve("torch", (0, 10, 20, 30), (1.0, 1.5, 1.2, 1.4)).steps_to(1.504) == 10
    with pytest.raises(ValueError, match="1 steps, 1 speeds"):
        SpeedCurve("torch", (0,), (1.0,))


def test_a_real_clock_finds_a_size_in_the_range(place: dict[str, Path]) -> None:
    assert 0.3 <= sparsity_at_speed(place["elastic"], 1.0, "fastest", ONE) <= 0.6


def test_in_python(place: dict[str, Path], clocks: list[Mapping[int, ForestScorer]]) -> None:
    path = place["elastic"]
    sparsity = sparsity_at_speed(path, 1.3, "torch", ONE)
    lm = asrprune.open_lm(path, "torch", threads=1, device="cpu", size="1.3x")
    same = asrprune.open_lm(path, "torch", threads=1, device="cpu", size=sparsity)
    assert lm.score_lists([["the cat sat"]])[0] == same.score_lists([["the cat sat"]])[0]
    assert len(clocks) == 1
    cut = asrprune.load_checkpoint(path, size="1.3x")
    assert cut.size_bytes() < asrprune.load_checkpoint(path).size_bytes()
    with pytest.raises(InputError, match="an LM of one size; expected an elastic one"):
        asrprune.load_checkpoint(place["lm"], size="1.3x")
    with pytest.raises(ValueError, match="an LM of one size; expected an elastic one"):
        asrprune.open_lm(tiny_lm(), size="1.3x")


def test_scores_say_the_sparsity(
    place: dict[str, Path],
    clocks: list[Mapping[int, ForestScorer]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    line = ["lmscore", "--lm", str(place["elastic"]), "--nbest", str(place["nbest"])]
    line += ["--threads", "1", "--device", "cpu", "--out"]
    assert main([*line, str(tmp_path / "fast"), "--size", "1.3x"]) == 0
    sparsity = sparsity_at_speed(place["elastic"], 1.3, "torch", ONE)
    header = read_scores(tmp_path / "fast").header
    assert header["lm"] == f"elastic@{sparsity}"
    assert f"size 1.3x: sparsity {sparsity:g}, by engine torch on 1 threads (measured" in (
        caplog.text
    )
    assert main([*line, str(tmp_path / "same"), "--size", f"{sparsity!r}"]) == 0
    assert header["lm_hash"] == read_scores(tmp_path / "same").header["lm_hash"]


def test_several_lms_have_no_speed(place: dict[str, Path]) -> None:
    both = [str(place["elastic"]), str(place["lm"])]
    for args in (
        argparse.Namespace(size="1.2x", lm=both),
        argparse.Namespace(size="1.2x", lm=None, system=list(zip("ab", both))),
    ):
        with pytest.raises(ValueError, match=r"--size 1\.2x of 2 LMs; expected one, or"):
            settle_speed(args)


@pytest.mark.parametrize(
    ("line", "status", "expected"),
    [
        ("perplexity --lm {elastic} --text {text} --size 99x", 2, "size 99x: this elastic LM is"),
        ("perplexity --lm {lm} --text {text} --size 2x", 1, "an LM of one size; expected an"),
        ("perplexity --lm {lm} --text {text} --size 2y", 2, "or a speed as 2.5x"),
        (
            "lmscore --lm {elastic} --nbest {nbest} --out {out} --size 1.2x --shard 1/2",
            2,
            "--size 1.2x with --shard, and machines differ in speed; expected a sparsity or",
        ),
    ],
)
def test_a_speed_that_is_none_is_one_line(
    place: dict[str, Path],
    clocks: list[Mapping[int, ForestScorer]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    line: str,
    status: int,
    expected: str,
) -> None:
    out = tmp_path / "out"
    words = [word.format(**place, out=out) for word in line.split()]
    try:
        found = main(words)
    except SystemExit as problem:
        found = int(str(problem.code))
    last = capsys.readouterr().err.splitlines()[-1]
    assert found == status
    assert last.startswith(f"asrprune {words[0]}: ")
    assert expected in last
    assert not out.exists()
