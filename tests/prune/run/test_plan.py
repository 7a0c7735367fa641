"""A plan from JSON values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asrprune.errors import InputError
from asrprune.prune.run.plan import FineTuning, Plan, plan_from_dict, read_plan


def test_a_plan_comes_back_from_its_json_form() -> None:
    plan = Plan("taylor", "low-rank", sparsities=(0.25, 0.5), fine_tuning=FineTuning(distill=False))
    value = json.loads(json.dumps(plan.to_dict()))
    assert value["sparsities"] == [0.25, 0.5]
    assert plan_from_dict(value, Plan()) == plan


def test_what_is_not_stated_stays_as_it_was() -> None:
    start = Plan(steps=3, fine_tuning=FineTuning(batch_tokens=100))
    changed = plan_from_dict({"fine_tuning": {"optimizer": {"lr": 1}}, "sparsities": [1]}, start)
    assert changed.fine_tuning.optimizer.lr == 1.0
    assert changed.fine_tuning.optimizer.muon_lr == FineTuning().optimizer.muon_lr
    assert (changed.fine_tuning.batch_tokens, changed.steps) == (100, 3)
    assert changed.sparsities == (1.0,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "[], not a JSON object"),
        ('{"options": {"min_rnk": 1}}', "did you mean 'options.min_rank'"),
        ('{"steps": 0}', "plan.json: steps is 0; expected >= 1"),
        ('{"sparsities": []}', "expected one or more, distinct"),
        ('{"sparsities": [true]}', "sparsities[0] is true; expected float"),
        ('{"options": {"matrices": []}}', "options.matrices is []; expected one or more"),
        ('{"fine_tuning": {"anneal": "never"}}', "anneal 'never'; known: steps, sizes"),
        ('{"fine_tuning": {"distill_hidden": -1}}', "distill_hidden is -1.0; expected 0..1e6"),
        (
            '{"fine_tuning": {"distill": false, "distill_hidden": 1}}',
            "distill_hidden is 1.0; expected 0 without distill",
        ),
        (
            '{"method": "width", "fine_tuning": {"distill_hidden": 1}}',
            "distill_hidden is 1.0; expected 0, as method width makes hidden states narrower",
        ),
        ('{"options": {"min_share": 1.5}}', "min_share is 1.5; expected 0..1"),
        ('{"options": {"width_share": -1}}', "width_share is -1.0; expected 0..1"),
        (
            '{"options": {"embedding_sparsity": 1}}',
            "embedding_sparsity is 1.0; expected >= 0 and less than 1",
        ),
        (
            '{"options": {"embedding_sparsity": -0.5}}',
            "embedding_sparsity is -0.5; expected >= 0 and less than 1",
        ),
        (
            '{"options": {"positions_sparsity": 1}}',
            "positions_sparsity is 1.0; expected >= 0 and less than 1",
        ),
        (
            '{"options": {"embedding_sparsity": 0.5, "embedding_rank": 8}}',
            "embedding_rank is 8; expected 0 with embedding_sparsity",
        ),
    ],
)
def test_a_bad_plan_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_plan(tmp_path / "plan.json", Plan())
    assert message in str(caught.value)
