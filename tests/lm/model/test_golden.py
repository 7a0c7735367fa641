"""Checkpoints that were written before the layout changed load as they are and score the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from asrprune.lm.open import open_lm

GOLDEN = Path(__file__).parents[2] / "golden"
EXPECTED = json.loads((GOLDEN / "scores.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["whole", "pruned"])
def test_a_golden_checkpoint_scores_as_it_did(name: str) -> None:
    (found,) = open_lm(GOLDEN / name).score_lists([EXPECTED["sentences"]])
    # another processor adds in another order: one or two steps of a float32 at the value
    np.testing.assert_allclose(found, EXPECTED[name], rtol=np.finfo(np.float32).eps, atol=0)
