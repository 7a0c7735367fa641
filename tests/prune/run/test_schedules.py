"""How much is removed by when, and which tokens that may cost."""

from __future__ import annotations

import pytest

from asrprune.prune.run.schedules import SCHEDULES, PruningStep, budget_until, one_run


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_rises_and_ends_on_target(schedule: str) -> None:
    for n_steps in (1, 3, 10):
        values = [SCHEDULES[schedule](step, n_steps, 0.2, 0.9) for step in range(n_steps + 1)]
        assert values[0] == pytest.approx(0.2)
        assert values[-1] == 0.9
        assert values == sorted(values)
    for step, n_steps, start, final in ((-1, 3, 0, 1), (4, 3, 0, 1), (0, 3, 0.5, 0.2)):
        with pytest.raises(ValueError, match="expected"):
            SCHEDULES[schedule](step, n_steps, start, final)


def test_cubic_by_hand() -> None:
    assert SCHEDULES["cubic"](1, 2, 0.0, 0.8) == pytest.approx(0.8 - 0.8 / 8)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sizes", [(0.5,), (0.3, 0.5, 0.7), (0.1, 0.2, 0.25, 0.8), (0.0, 1.0)])
def test_one_run_meets_every_size(schedule: str, sizes: tuple[float, ...]) -> None:
    for n_steps in (1, 2, 8):
        steps = one_run(schedule, n_steps, 0.0, sizes)
        assert [step.member for step in steps if step.member is not None] == sorted(sizes)
        assert all(step.member in (None, step.sparsity) for step in steps)
        assert [step.sparsity for step in steps] == sorted({step.sparsity for step in steps})
        assert len(steps) <= max(n_steps, len(sizes))
        for growth in (1.0, 2.0):
            counts = range(len(steps) + 1)
            budget = [budget_until(steps, count, 1001, 0.4, growth) for count in counts]
            assert budget == sorted(budget)
            assert (budget[0], budget[-1]) == (0, 1001)


def test_linear_by_hand() -> None:
    assert SCHEDULES["linear"](1, 4, 0.2, 0.6) == pytest.approx(0.3)
    assert SCHEDULES["one-shot"](0, 4, 0.2, 0.6) == 0.2
    assert SCHEDULES["one-shot"](1, 4, 0.2, 0.6) == 0.6
    assert SCHEDULES["cubic"](1, 4, 0.2, 0.6) == pytest.approx(0.6 - 0.4 * (3 / 4) ** 3)


def test_a_size_takes_the_place_of_the_nearest_point() -> None:
    steps = one_run("linear", 4, 0.0, [0.3, 0.8])  # 0.2 0.4 0.6 0.8
    assert [step.sparsity for step in steps] == pytest.approx([0.3, 0.4, 0.6, 0.8])
    assert [step.member for step in steps] == [0.3, None, None, 0.8]
    near = one_run("linear", 4, 0.0, [0.395, 0.405, 0.8])
    assert [step.sparsity for step in near] == pytest.approx([0.2, 0.395, 0.405, 0.8])
    short = one_run("cubic", 5, 0.0, [0.5])  # 0.496 is too close to the end
    assert [step.sparsity for step in short] == pytest.approx([0.244, 0.392, 0.468, 0.5])
    assert one_run("one-shot", 9, 0.1, [0.2, 0.5]) == [
        PruningStep(0.2, 0.2),
        PruningStep(0.5, 0.5),
    ]
    for sizes in ([], [0.3, 0.3], [0.05, 0.3]):
        with pytest.raises(ValueError, match="expected distinct values"):
            one_run("linear", 4, 0.1, sizes)


def test_the_budget_by_hand() -> None:
    """The share ``hold`` to the two members, 1 : growth, and the rest to the three steps alike."""
    steps = [PruningStep(0.3), PruningStep(0.5, 0.5), PruningStep(0.7, 0.7)]
    assert [budget_until(steps, n, 1000, 0.4) for n in range(4)] == [0, 200, 600, 1000]
    assert [budget_until(steps, n, 1000, 1.0, 3.0) for n in range(4)] == [0, 0, 250, 1000]
    assert [budget_until(steps, n, 900, 0.0, 3.0) for n in range(4)] == [0, 300, 600, 900]
    three = [PruningStep(size, size) for size in (0.3, 0.5, 0.7)]
    assert [budget_until(three, n, 700, 1.0, 2.0) for n in range(4)] == [0, 100, 300, 700]
