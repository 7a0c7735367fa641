"""Pruned LMs in memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Union

import torch

from asrprune.api.first_pass import shown
from asrprune.api.lms import as_checkpoint
from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.lm.device import without_autocast
from asrprune.lm.model.checkpoint import Checkpoint
from asrprune.provenance import provenance
from asrprune.prune.run.plan import Plan, plan_from_dict
from asrprune.prune.run.schedules import STEPLESS
from asrprune.prune.run.scorer import PruningData
from asrprune.prune.run.steps import prune_in_memory
from asrprune.text.corpus import TokenStream, open_corpus

_PLAN = Plan()


def prune_lm(
    lm: Checkpoint,
    data: Union[PathLike, Iterable[str]],
    criterion: str = _PLAN.criterion,
    method: str = _PLAN.method,
    schedule: str = _PLAN.schedule,
    sparsities: Sequence[float] = _PLAN.sparsities,
    **plan: Any,
) -> list[Checkpoint]:
    """Pruned LMs, one for each of ``sparsities``, in ascending order; ``lm`` stays as it is.

    ``lm`` is a checkpoint, of ``load_checkpoint`` or of an earlier call. ``data``: text that it was
    trained on, for the criterion and for fine-tuning, as a folder of ``asrprune tokenize`` or as
    sentences (strings, normalised as in training). ``criterion``, ``method`` and ``schedule`` are
    those of ``asrprune list``; a sparsity is the fraction of the parameters of the blocks' matrices
    that is removed, 0 to 1. ``plan`` holds further keys of the plan, such as ``steps=4``,
    ``fine_tune_tokens=2_000_000`` (default: a tenth of the data's tokens; 0 for none), ``seed=1``
    or ``options={"scope": "matrix"}`` (``asrprune prune --help`` lists them). Schedule elastic
    gives one LM, of the largest size, whose ``cut(0.5)`` is another; ``open_lm`` takes its ``size``
    too.

    Each result goes into ``score_nbest``, ``open_lm``, ``save_checkpoint`` or another ``prune_lm``;
    the last entry of its ``history`` says what was "asked" and "measured". What the caller has set
    for torch (random numbers, ``no_grad``, ``autocast``) has no part in it, and stays. Raises
    ValueError for an unknown name or key and a size out of reach, InputError for a folder with
    another tokeniser, TypeError for what is no checkpoint or no text.

    >>> import asrprune
    >>> from asrprune.api.example import SENTENCES, tiny_lm
    >>> half, = asrprune.prune_lm(tiny_lm(), SENTENCES, method="low-rank", sparsities=(0.5,))
    >>> round(half.history[-1]["measured"], 1)
    0.5
    """
    parent = as_checkpoint(lm)
    if isinstance(sparsities, (int, float, str)):
        raise TypeError(f"sparsities is {shown(sparsities)}; expected numbers such as (0.3, 0.5)")
    if schedule in STEPLESS and "steps" in plan:
        raise ValueError(f"steps has no use for schedule {schedule}; expected none")
    stated = {
        "criterion": criterion,
        "method": method,
        "schedule": schedule,
        "sparsities": [float(sparsity) for sparsity in sparsities],
    }
    made_by = plan_from_dict({**stated, **plan}, _PLAN)
    stream = _stream(parent, data)
    with _on_its_own(parent.model.device):
        made = list(prune_in_memory(parent.model, PruningData(stream), made_by, parent.history))
    origin = provenance(
        ["asrprune.prune_lm"],
        seed=made_by.seed,
        plan=made_by.to_dict(),
        parent=None if parent.path is None else os.fspath(parent.path),
    )
    return [
        replace(
            parent,
            model=one.model.eval(),
            provenance=origin,
            history=one.history,
            path=None,
            elastic=one.elastic,
            left_out=0,
        )
        for one in made
    ]


@contextlib.contextmanager
def _on_its_own(device: torch.device) -> Iterator[None]:
    """Inside the block torch is as in a process of its own, and as before behind it: its random
    numbers, derivatives and number formats."""
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.inference_mode(False),
        torch.enable_grad(),
        without_autocast(),
    ):
        yield


def _stream(parent: Checkpoint, data: Union[PathLike, Iterable[str]]) -> TokenStream:
    """The text as the LM's token ids."""
    if isinstance(data, (str, os.PathLike)):
        corpus = open_corpus(data)
        digest = corpus.data["tokenizer_sha256"]
        if digest != parent.tokenizer_sha256:
            found = f"tokenizer hash {digest[:12]}"
            raise InputError(data, None, found, f"{parent.tokenizer_sha256[:12]}, that of the LM")
        return corpus.stream("train")
    sentences = list(data)
    for number, sentence in enumerate(sentences):
        if not isinstance(sentence, str):
            raise TypeError(f"data[{number}] is {shown(sentence)}; expected a sentence")
    if not sentences:
        raise ValueError("data holds no sentence; expected at least one")
    tokenizer = parent.tokenizer()
    encoded = tokenizer.encode_batch(sentences)
    begin, end, prompt = tokenizer.begin, tokenizer.end, tokenizer.prompt
    return TokenStream.from_sentences(encoded, begin, end, prompt)
