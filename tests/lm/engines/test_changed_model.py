"""An LM in memory whose weights are changed after it was opened."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

import asrprune
from asrprune.api.example import SENTENCES, tiny_lm
from asrprune.lm.engines.table import ENGINES

TEXTS = [list(SENTENCES[:3])]
PACKAGES = {"onnx": ["onnx", "onnxruntime"], "openvino": ["onnx", "openvino"]}


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "torch-compile"])
def test_an_engine_follows_the_model_or_keeps_to_its_copy(engine: str) -> None:
    for package in PACKAGES.get(engine.partition("-")[0], ()):
        pytest.importorskip(package)
    shared = tiny_lm()
    changed = replace(shared, model=copy.deepcopy(shared.model))
    lm = asrprune.open_lm(changed, engine, threads=1)
    before = lm.score_lists(TEXTS)[0]
    with torch.no_grad():
        for value in changed.model.parameters():
            value.mul_(0.5)
    expected = before if engine != "torch" else asrprune.open_lm(changed).score_lists(TEXTS)[0]
    np.testing.assert_allclose(lm.score_lists(TEXTS)[0], expected, rtol=0, atol=1e-4)
    assert np.abs(asrprune.open_lm(changed, engine).score_lists(TEXTS)[0] - before).max() > 0.1
