"""llama.cpp itself, through the wheels of ``xllamacpp``: ln P of every token after some tokens.

It runs in a process of its own (``llama_cpp_child``) and is asked for one token and the
probabilities of all, after many prefixes. Attention is computed in float32 with a float32 cache, as
the LM does; what llama.cpp does by default (half precision there) is not what is checked.
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from asrprune.errors import InputError, MissingPackage
from asrprune.exchange.exporters.check import Difference, Floats, log_probs
from asrprune.exchange.exporters.graphs import Marks
from asrprune.files import PathLike
from asrprune.lm.model.transformer import TransformerLM

Prompt = Union[str, Sequence[int]]

_MOST_SCORES = 2_000_000
_MOST_PLACES = 192
"""ln P that are asked for at most, and after how many prefixes: the server writes them as text."""

_PATIENCE_S = 900.0

_UNDERFLOW = -80.0
"""Below it a probability may be 0 in float32, and its logarithm is stated as the least number."""


def version() -> str:
    """Of llama.cpp's wheels. Raises MissingPackage without them."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingPackage("xllamacpp", "gguf")
    return importlib.metadata.version("xllamacpp")


@dataclass(frozen=True)
class LlamaCpp:
    """A GGUF file in llama.cpp. ``lm`` is named in errors, ``positions`` are those of a context,
    ``plain`` is a piece that is text by itself; its folder is private."""

    lm: PathLike
    path: Path
    positions: int
    vocab_size: int
    plain: int

    def after(self, prompts: Sequence[Prompt]) -> tuple[Floats, list[int]]:
        """ln P of every token after each prompt, [prompts, V], and the prompts' numbers of tokens.

        Raises InputError where llama.cpp does not load the file or does not answer.
        """
        questions, answers = self.path.with_suffix(".json"), self.path.with_suffix(".npz")
        asked = {
            "model": str(self.path),
            "positions": self.positions,
            "vocab_size": self.vocab_size,
            "plain": self.plain,
            "prompts": [one if isinstance(one, str) else list(one) for one in prompts],
        }
        questions.write_text(json.dumps(asked), encoding="utf-8")
        # as text: by its name, the modules beside it would hide some of Python's own
        child = Path(__file__).with_name("llama_cpp_child.py").read_text(encoding="utf-8")
        words = [sys.executable, "-c", child, str(questions), str(answers)]
        place = self.path.parent
        try:
            ended = subprocess.run(words, capture_output=True, timeout=_PATIENCE_S, cwd=place)
        except subprocess.TimeoutExpired:
            raise self._refusal(f"no answer in {_PATIENCE_S:.0f} s") from None
        if ended.returncode:
            last = ended.stderr.decode(errors="replace").strip().splitlines()
            reason = last[-1][:200] if last else "no reason given"
            raise self._refusal(f"status {ended.returncode}: {reason}")
        with np.load(answers, allow_pickle=False) as made:
            return made["scores"], made["counts"].tolist()

    def _refusal(self, reason: str) -> InputError:
        found = f"an LM that llama.cpp does not take ({reason})"
        return InputError(self.lm, None, found, "one that it does (a defect of the exporter)")


def compare(
    runtime: LlamaCpp,
    references: Sequence[TransformerLM],
    sentences: Sequence[list[int]],
    marks: Marks,
) -> list[Difference]:
    """How far llama.cpp is from each reference, after prefixes of the sentences.

    The longest one that is asked for leaves a place free, as llama.cpp's server wants one.
    """
    size = references[0].embedding.vocab_size
    longest = references[0].max_positions - 2
    places = [(n, end) for n, one in enumerate(sentences) for end in range(len(one) + 1)]
    places = [place for place in places if place[1] <= longest]
    most = max(8, min(_MOST_PLACES, _MOST_SCORES // size))
    chosen = np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).astype(int))
    asked = [places[index] for index in chosen]
    prompts = [[marks.begin, *sentences[number][:end]] for number, end in asked]
    every, _ = runtime.after(prompts)
    found = [Difference()] * len(references)
    for index, reference in enumerate(references):
        known: dict[int, Floats] = {}
        for (number, end), values in zip(asked, every):
            if number not in known:
                known = {number: log_probs(reference, sentences[number], marks.begin)}
            wanted = known[number][end]
            unseen = (values < _UNDERFLOW) & (wanted < _UNDERFLOW)
            found[index] += Difference.of(np.where(unseen, wanted, values), wanted)
    return found


def moved(
    rounded: TransformerLM, model: TransformerLM, sentences: Sequence[list[int]], marks: Marks
) -> Difference:
    """How far what ``as_llama_cpp`` gives is from the model itself.

    Rounding of GPT-2's activations goes on from block to block, and turns at another place where
    sums of float32 run in another order: llama.cpp's own scores are about as far from the model's.
    """
    found = Difference()
    for one in sentences:
        both = (log_probs(lm, one, marks.begin) for lm in (rounded, model))
        found += Difference.of(*both)
    return found


class _HalfGelu(nn.Module):
    """GPT-2's FFN with the GELU that llama.cpp looks up: in half precision, both ways."""

    def __init__(self, ffn: Any) -> None:
        super().__init__()
        self.up: nn.Module = ffn.get_submodule("up")
        self.down: nn.Module = ffn.get_submodule("down")

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.up(x)
        looked_up = functional.gelu(inner.half().float(), approximate="tanh").half().float()
        made = torch.where(inner >= 10, inner, torch.where(inner <= -10, 0.0, looked_up))
        out: Tensor = self.down(made)
        return out


def as_llama_cpp(model: TransformerLM) -> TransformerLM:
    """The model as llama.cpp computes it, which rounds GPT-2's activations; others stay."""
    if model.shape.architecture != "gpt2":
        return model
    made = copy.deepcopy(model)
    for block in made.layers():
        block.ffn = _HalfGelu(block.ffn)
    return made
