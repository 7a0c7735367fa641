"""sherpa-onnx itself with exported LMs: a toy transducer hears what the LM likes."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
import torch

from asrprune.cli.main import main
from asrprune.exchange.exporters.check import log_probs
from asrprune.exchange.exporters.numbers import rounded
from asrprune.lm.model.checkpoint import load_checkpoint
from tests.exchange import run_sherpa
from tests.exchange.pruned_shapes import SHAPES, save_transducer_lm

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("sherpa_onnx")

CHOICES = [{4: 0.0, 9: -0.2}, {5: -0.1, 12: 0.0, 3: -0.3}, {7: 0.0, 20: -0.4}, {6: -0.2, 10: 0.0}]
SENTENCES = [list(one) for one in itertools.product(*CHOICES)]
FORMS = ("offline", "streaming")


def _decode(
    folder: Path, form: str, lm: Optional[Path], scale: float, streams: int = 1
) -> list[dict[str, Any]]:
    from tests.exchange.toy_transducer import save_transducer

    tokens = folder / "tokens.txt"
    size = len(tokens.read_text(encoding="utf-8").splitlines())
    options: dict[str, Any] = save_transducer(folder, size, CHOICES, form == "streaming")
    options |= {"tokens": str(tokens), "max_active_paths": 2 * len(SENTENCES)}
    if lm is not None:
        options |= {"lm": str(lm), "lm_scale": scale}
    asked = {"streaming": form == "streaming", "streams": streams, "options": options}
    done = subprocess.run(
        [sys.executable, run_sherpa.__file__],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _export(folder: Path, name: str, form: str, dtype: str = "float32") -> tuple[Path, Any]:
    """The LM in sherpa-onnx's form, and the model that it stands for."""
    lm = save_transducer_lm(folder, SHAPES[name])
    out = folder / f"{form}.onnx"
    words = ["export", "--to", "sherpa-onnx", "--form", form, "--dtype", dtype]
    words += ["--tokens", str(folder / "tokens.txt"), "--lm", str(lm), "--out", str(out)]
    assert main(words) == 0
    model = load_checkpoint(lm).model
    return out, rounded(model) if dtype == "int8" else model


def _best(model: Any, form: str, scale: float) -> list[int]:
    """What exact search over all sentences finds."""
    totals = []
    for sentence in SENTENCES:
        total = 0.0
        for token, logits in zip(sentence, CHOICES):
            heard = torch.tensor(list(logits.values()), dtype=torch.float64).log_softmax(0)
            total += float(heard[list(logits).index(token)])
        every = log_probs(model, sentence, 1).astype(np.float64)
        wanted = [*sentence, 1] if form == "offline" else sentence
        totals.append(total + scale * every[np.arange(len(wanted)), wanted].sum())
    return SENTENCES[int(np.argmax(totals))]


def _names(folder: Path, sentence: list[int]) -> list[str]:
    lines = (folder / "tokens.txt").read_text(encoding="utf-8").splitlines()
    return [lines[token].split()[0].replace("\u2581", " ") for token in sentence]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("name", ["gpt2-structured", "llama"])
@pytest.mark.parametrize("form", FORMS)
def test_the_transducer_hears_what_the_lm_likes(form, name, dtype, tmp_path):
    lm, model = _export(tmp_path, name, form, dtype)
    (alone,) = _decode(tmp_path, form, None, 0.0)
    heard = _names(tmp_path, [max(one, key=one.__getitem__) for one in CHOICES])
    assert [token.replace("\u2581", " ") for token in alone["tokens"]] == heard
    for scale in (0.3, 2.0):
        (found,) = _decode(tmp_path, form, lm, scale)
        expected = _names(tmp_path, _best(model, form, scale))
        assert [token.replace("\u2581", " ") for token in found["tokens"]] == expected
    assert expected != heard


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SHAPES))
def test_the_probabilities_of_a_stream_are_those_of_the_lm(name, tmp_path):
    lm, model = _export(tmp_path, name, "streaming")
    (found,) = _decode(tmp_path, "streaming", lm, 0.7)
    best = _best(model, "streaming", 0.7)
    assert [one.replace("\u2581", " ") for one in found["tokens"]] == _names(tmp_path, best)
    every = log_probs(model, best, 1)
    expected = every[np.arange(len(best)), best]
    np.testing.assert_allclose(found["lm_probs"], expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_several_streams_at_once_hear_the_same(tmp_path):
    lm, _ = _export(tmp_path, "llama-low-rank", "offline")
    alone = _decode(tmp_path, "offline", lm, 1.0)
    assert _decode(tmp_path, "offline", lm, 1.0, streams=3) == alone * 3
