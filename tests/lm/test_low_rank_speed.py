"""How much low rank saves here: what is measured is what is said."""

from __future__ import annotations

import pytest

from asrprune.lm import low_rank_speed
from asrprune.lm.low_rank_speed import LowRankSpeed, low_rank_speeds, summary


def test_half_the_weights_are_left_and_both_are_timed() -> None:
    (found,) = low_rank_speeds([64], threads=1)
    blocks, output = 2 * 12 * 64**2, 512 * 64
    assert found.work == pytest.approx(
        (blocks + output) / (blocks / 2 + output), rel=0.03
    )  # ranks are rounded
    assert found.width == 64
    assert found.engine in low_rank_speed.ENGINES
    assert found.speed_up > 0


def test_the_least_of_the_turns_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that ticks so often in a run as its engine is slow."""
    ticks = iter(range(10**6))

    class Scorer:
        def __init__(self, engine: int, *_: object) -> None:
            self.slow = engine

        def forest(self, lists: object) -> object:
            return lists

        def run(self, forest: object) -> None:
            for _ in range(self.slow):
                next(ticks)

    monkeypatch.setattr(low_rank_speed.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(low_rank_speed, "ForestScorer", Scorer)
    slow = {
        False: {"torch": 50, "bf16": 20, "int8": 30},
        True: {"torch": 25, "bf16": 12, "int8": 9},
    }
    monkeypatch.setattr(
        low_rank_speed,
        "open_engine",
        lambda name, model, options: slow[bool(model.shape.blocks[0].linears)][name],
    )
    (found,) = low_rank_speeds([64], threads=1)
    assert (found.engine, found.speed_up) == ("int8", 21 / 10)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [([0.5, 0.95, 0.99], "it pays from width 20"), ([0.5, 0.8, 0.89], "for size, not for speed")],
)
def test_it_pays_from_the_first_width_on(shares: list[float], expected: str) -> None:
    speeds = [LowRankSpeed(10 * i, "bf16", 2 * one, 2.0) for i, one in enumerate(shares, 1)]
    assert summary(speeds).endswith(expected)
