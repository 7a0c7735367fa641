"""Where a killed run goes on: all that it needs comes back from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from asrprune.core.resume import AnotherRunError
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.state_file import read_state_file, write_state
from asrprune.prune.methods import Options
from asrprune.prune.run.fine_tuning import Movement, Spent
from asrprune.prune.run.plan import FineTuning, Plan
from asrprune.prune.run.state import STATE, RunState, load_state, save_state
from asrprune.prune.run.steps import PruningRun
from tests.prune.small_models import DATA, SHAPES, logits
from tests.quick import slow
from tests.small_lm import drawn_model

CPU = torch.device("cpu")


def load(folder: Path) -> tuple[int, RunState]:
    found = load_state(folder, {"seed": 1}, CPU)
    assert found is not None
    return found


@pytest.mark.parametrize("name", SHAPES)
def test_a_state_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    model = drawn_model(SHAPES[name])
    place = Place(1, "ffn.down")
    weight = dict(model.linears())[place].product().detach()
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    state = RunState(
        model,
        {place: mask},
        [{"asked": 0.2, "reference": {"0.attn.q": 256}}],
        steps_done=3,
        spent=Spent(123, 4, 0.5),
        batches={"epoch": 1, "pool": 0, "batch": 7, "number": 19},
        movement={f"{place}.weight": Movement(-weight, weight)},
    )
    save_state(tmp_path, 2, state, {"seed": 1})
    number, found = load(tmp_path)
    assert number == 2
    assert torch.equal(logits(found.model), logits(model))
    assert found.model.shape == model.shape
    assert list(found.masks) == [place]
    assert torch.equal(found.masks[place], mask)
    assert found.history == state.history
    assert (found.steps_done, found.spent) == (3, Spent(123, 4, 0.5))
    assert found.batches == state.batches
    (movement,) = found.movement.values()
    assert torch.equal(movement.mean, -weight)
    assert torch.equal(movement.weight, weight)
    with pytest.raises(AnotherRunError, match="seed is 1 there, 2 now"):
        load_state(tmp_path, {"seed": 2}, CPU)
    (tmp_path / STATE).unlink()
    assert load_state(tmp_path, {"seed": 1}, CPU) is None


MASK = {"masks": {"0.attn.q": torch.ones(2, 3, dtype=torch.bool)}}


@pytest.mark.parametrize(
    "change", [{"shape": "3"}, {"identity": "{"}, {"masks": 3}, {"run": {}}, MASK]
)
def test_a_state_of_other_types_is_damaged(
    change: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_state(tmp_path, 0, RunState(drawn_model(SHAPES["gpt2"]), {}, []), {"seed": 1})
    value = read_state_file(tmp_path / STATE)
    write_state(tmp_path / STATE, {**value, **change})
    assert load_state(tmp_path, {"seed": 1}, CPU) is None
    assert "state.pt is damaged" in caplog.text


@pytest.mark.parametrize(
    ("name", "criterion", "method"),
    [
        ("llama", "movement", "block-4x1"),
        *slow(
            [("gpt2", "movement", "block-4x1"), *((name, "kfac", "low-rank") for name in SHAPES)]
        ),
    ],
)
def test_a_run_that_is_taken_up_ends_like_one_that_never_stopped(
    name: str, criterion: str, method: str, tmp_path: Path
) -> None:
    fine_tuning = FineTuning(batch_tokens=32, precision="fp32")
    options = Options(min_heads=0, min_width=0, min_rank=0, multiple_of=1)
    plan = Plan(criterion, method, "linear", (0.6,), 3, 200, statistics_tokens=60, options=options)
    plan = Plan(**{**vars(plan), "fine_tuning": fine_tuning})

    def run(stop: bool) -> tuple[TransformerLM, RunState]:
        made = PruningRun(drawn_model(SHAPES[name]), DATA, plan)
        (steps,) = made.runs()
        state = made.fresh_state()
        while state.steps_done < len(steps):
            made.step(state, steps)
            if stop:
                torch.rand(3)  # whatever else is drawn in between
                save_state(tmp_path, 0, state, {"seed": 1})
                _, state = load(tmp_path)
        return state.model, state

    whole, one = run(stop=False)
    again, other = run(stop=True)
    assert torch.equal(logits(whole), logits(again))
    assert (one.spent.tokens, one.spent.steps) == (other.spent.tokens, other.spent.steps)
    assert [step["measured"] for step in one.history] == [
        step["measured"] for step in other.history
    ]
