"""Fine-tuning after pruning."""

from __future__ import annotations

import numpy as np
import torch

from asrprune.lm.model.shapes import Place
from asrprune.lm.training.batches import BatchStream
from asrprune.prune.groups import Group
from asrprune.prune.run.fine_tuning import Movement, fine_tune_pruned
from asrprune.prune.run.plan import FineTuning, Plan
from asrprune.prune.run.scorer import DataScorer, PruningData
from asrprune.text.corpus import TokenStream
from tests.prune.tiny_lm import V, tiny


def test_movement_is_added_up_over_the_steps_of_fine_tuning() -> None:
    """Against the same training with -w g added up by hand; without it nothing else changes."""
    rng = np.random.default_rng(2)
    data = TokenStream.from_sentences([rng.integers(3, V, size=5).tolist() for _ in range(60)])
    settings_ = FineTuning(batch_tokens=64, distill=False, precision="fp32")
    found: dict[str, Movement] = {}
    model, other = tiny(), tiny()
    spent = fine_tune_pruned(
        model, BatchStream(data, 64, 1, 16), 200, settings_, {}, movement=found
    )
    weight = other.blocks[1].linear("ffn.up").weight
    expected = torch.zeros_like(weight)

    def add(gradient: torch.Tensor) -> None:
        expected.sub_(weight.detach() * gradient)

    weight.register_hook(add)
    fine_tune_pruned(other, BatchStream(data, 64, 1, 16), 200, settings_, {})
    assert spent.steps > 1
    assert torch.equal(model.blocks[1].linear("ffn.up").weight, weight)
    assert torch.allclose(found["1.ffn.up.weight"].mean, expected / spent.tokens)
    assert torch.equal(found["1.ffn.up.weight"].weight, weight)
    plan = Plan(criterion="movement", statistics_tokens=60)
    group = Group(Place(1, "ffn.up"), model.blocks[1].linear("ffn.up"), "weight", 1, 1, cost=1)
    scored = DataScorer(plan, PruningData(data), 0, found).scores(model, [group])[0]
    assert torch.allclose(scored, expected / spent.tokens - expected.min() / spent.tokens)
    assert scored.min() == 0
