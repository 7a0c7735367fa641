"""Where a killed run goes on: all that it needs comes back from disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest
import torch

from asrprune.core.resume import AnotherRunError
from asrprune.lm.model.elastic import Elastic
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.state_file import read_state_file, write_state
from asrprune.prune.masks import EMBEDDING
from asrprune.prune.methods import Options
from asrprune.prune.run import fine_tuning
from asrprune.prune.run.fine_tuning import Begun, Movement, Spent
from asrprune.prune.run.plan import FineTuning, Plan
from asrprune.prune.run.state import STATE, RunState, Within, load_state, save_state
from asrprune.prune.run.steps import PrunedLM, PruningRun
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
    kept = (
        torch.rand(model.embedding.weight.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    )
    state = RunState(
        model,
        {place: mask, EMBEDDING: kept},
        [{"asked": 0.2, "reference": {"0.attn.q": 256}}],
        steps_done=3,
        spent=Spent(123, 4, 0.5),
        batches={"epoch": 1, "pool": 0, "batch": 7, "number": 19},
        movement={f"{place}.weight": Movement(-weight, weight)},
        within=Within(
            Elastic((0.2, 0.5), 300, 200, 2, {"0.attn.q": 10, "1.ffn.down": 20}, "0 1 0"),
            {0.2: 3.5, 0.5: None},
            1.5,
            Begun({"steps": 2}, torch.tensor([[9.0, 4.5], [8.0, 4.25]]), {"a": weight}, 2.5),
        ),
    )
    save_state(tmp_path, 2, state, {"seed": 1})
    number, found = load(tmp_path)
    assert number == 2
    assert torch.equal(logits(found.model), logits(model))
    assert found.model.shape == model.shape
    assert list(found.masks) == [place, EMBEDDING]
    assert torch.equal(found.masks[place], mask)
    assert torch.equal(found.masks[EMBEDDING], kept)
    assert found.history == state.history
    assert (found.steps_done, found.spent) == (3, Spent(123, 4, 0.5))
    assert found.batches == state.batches
    (movement,) = found.movement.values()
    assert torch.equal(movement.mean, -weight)
    assert torch.equal(movement.weight, weight)
    assert found.within is not None
    assert state.within is not None
    assert replace(found.within, begun=None) == replace(state.within, begun=None)
    assert found.within.begun is not None
    assert (found.within.begun.loop, found.within.begun.wall_s) == ({"steps": 2}, 2.5)
    assert found.within.begun.losses.tolist() == [[9.0, 4.5], [8.0, 4.25]]
    assert torch.equal(found.within.begun.movement["a"], weight)
    with pytest.raises(AnotherRunError, match="seed is 1 there, 2 now"):
        load_state(tmp_path, {"seed": 2}, CPU)
    (tmp_path / STATE).unlink()
    assert load_state(tmp_path, {"seed": 1}, CPU) is None


MASK = {"masks": {"0.attn.q": torch.ones(2, 3, dtype=torch.bool)}}
TABLE = {"masks": {"-1.embedding": torch.ones(2, 3, dtype=torch.bool)}}


@pytest.mark.parametrize(
    "change",
    [
        {"shape": "3"},
        {"identity": "{"},
        {"masks": 3},
        {"run": {}},
        MASK,
        TABLE,
        {"within": {"a": 1}},
    ],
)
def test_a_state_of_other_types_is_damaged(
    change: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_state(tmp_path, 0, RunState(drawn_model(SHAPES["gpt2"]), {}, []), {"seed": 1})
    value = read_state_file(tmp_path / STATE)
    write_state(tmp_path / STATE, {**value, **change})
    assert load_state(tmp_path, {"seed": 1}, CPU) is None
    assert "state.pt is damaged" in caplog.text


def test_a_state_of_a_version_that_kept_none_within_a_step(tmp_path: Path) -> None:
    save_state(tmp_path, 0, RunState(drawn_model(SHAPES["gpt2"]), {}, []), {"seed": 1})
    value = read_state_file(tmp_path / STATE)
    del value["within"]
    write_state(tmp_path / STATE, value)
    assert load(tmp_path)[1].within is None


@pytest.mark.parametrize(
    ("name", "criterion", "method", "schedule"),
    [
        ("llama", "movement", "block-4x1", "linear"),
        ("gpt2", "kfac", "low-rank+structured", "elastic"),
        *slow(
            [
                ("gpt2", "movement", "block-4x1", "linear"),
                *((name, "kfac", "low-rank", "linear") for name in SHAPES),
                *((name, "kfac", "low-rank", "elastic") for name in SHAPES),
                *((name, "kfac", "width+structured", "one-shot") for name in SHAPES),
            ]
        ),
    ],
)
def test_a_run_that_is_taken_up_ends_like_one_that_never_stopped(
    name: str,
    criterion: str,
    method: str,
    schedule: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between two pruning steps, and within each behind every optimiser step."""
    monkeypatch.setattr(fine_tuning, "SAVE_S", 0.0)
    monkeypatch.setattr(fine_tuning, "LOOK_STEPS", 1)
    zeros = 0.4 if SHAPES[name].tied else 0.0
    options = Options(min_heads=0, min_width=0, min_rank=0, multiple_of=1, embedding_sparsity=zeros)
    options = replace(options, positions_sparsity=0.7 if name == "gpt2" else 0.0)
    sizes = (0.3, 0.6) if schedule == "elastic" else (0.6,)
    plan = Plan(criterion, method, schedule, sizes, 3, 200, statistics_tokens=60, options=options)
    settings = FineTuning(batch_tokens=32, precision="fp32")
    plan = Plan(**{**vars(plan), "fine_tuning": settings})

    def killed(state: RunState) -> None:
        torch.rand(3)  # whatever else is drawn in between
        save_state(tmp_path, 0, state, {"seed": 1})
        raise InterruptedError

    def run(stop: bool) -> tuple[TransformerLM, RunState, Optional[PrunedLM], int]:
        made = PruningRun(drawn_model(SHAPES[name]), DATA, plan)
        (steps,) = made.runs()
        state, delivered, stops = made.fresh_state(), None, 0
        while state.steps_done < len(steps):
            try:
                delivered = made.step(state, steps, killed if stop else None)
                save_state(tmp_path, 0, state, {"seed": 1})
            except InterruptedError:
                stops += 1
                assert stops < 100, "it does not go on"
            if stop:
                _, state = load(tmp_path)
        return state.model, state, delivered, stops

    whole, one, all_sizes, none = run(stop=False)
    again, other, same_sizes, stops = run(stop=True)
    assert torch.equal(logits(whole), logits(again))
    assert (one.spent.tokens, one.spent.steps) == (other.spent.tokens, other.spent.steps)
    assert (none, stops) == (0, one.spent.steps - len(one.history))
    assert stops > 2
    timeless = [
        [{key: step[key] for key in ("measured", "losses", "fine_tune_tokens")} for step in history]
        for history in (one.history, other.history)
    ]
    assert timeless[0] == timeless[1]
    assert all_sizes is not None
    assert same_sizes is not None
    assert all_sizes.elastic == same_sizes.elastic
    assert all_sizes.perplexities_pruned == same_sizes.perplexities_pruned
    assert (all_sizes.elastic is not None) == (schedule == "elastic")
