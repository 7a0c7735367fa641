"""Language models: opened for scoring, loaded, saved."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional, Union

import torch

from asrprune.core.tables import lookup
from asrprune.files import PathLike
from asrprune.lm import open as opening
from asrprune.lm.device import resolve_device
from asrprune.lm.elastic_speed import sparsity_at_speed
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.table import CHOICES, ENGINES
from asrprune.lm.model import checkpoint as folders
from asrprune.lm.model.checkpoint import Checkpoint
from asrprune.lm.model.elastic import Size, parse_speed
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.protocol import LanguageModel
from asrprune.lm.scoring.forests import ScoringOptions
from asrprune.text.form import TextOptions
from asrprune.text.tokenizer import Tokenizer

AnyLM = Union[LanguageModel, Checkpoint]
"""What scores: an LM that ``open_lm`` gave, or a checkpoint as it is in memory."""

_EXPECTED = "expected an asrprune LM: open_lm(PATH) or load_checkpoint(PATH)"


def open_lm(
    lm: Union[PathLike, Checkpoint, TransformerLM],
    engine: str = "torch",
    *,
    tokenizer: Optional[Union[PathLike, Tokenizer]] = None,
    threads: Optional[int] = None,
    device: Optional[str] = None,
    calibration: Optional[PathLike] = None,
    token_budget: Optional[int] = None,
    over_long: Optional[str] = None,
    normalise: Optional[str] = None,
    language: Optional[str] = None,
    size: Optional[Size] = None,
) -> LanguageModel:
    """A language model that scores sentences: ln P(words, </s> | <s>), higher is better.

    ``lm``: path of a checkpoint folder or of an n-gram model (``.arpa``, ``.arpa.gz``, ``.bin``,
    ``.klm``), a checkpoint in memory, or a TransformerLM with its ``tokenizer``. ``engine`` is one
    of ``asrprune list engines``, or ``auto``, ``fastest-bf16``, ``fastest``, which measure on drawn
    tries what is the fastest here; it, ``threads``, ``calibration``, ``token_budget`` and
    ``over_long`` ("error", "minus-inf", "window") mean what ``asrprune lmscore --help`` says.
    ``device``: "cpu", "cuda", ... or "auto", the GPU if there is one. By default a path takes
    "auto", and a model in memory stays where it is; on another device it is copied. A model in
    memory is put into evaluation mode. On its own device the engines torch and torch-compile score
    with the model itself, whatever is done to its weights later; the others take a copy. An LM is
    of its process: open it in each of several, spawned or forked before anything was scored (a fork
    has none of the threads that engines compute with); those of torch alone can be pickled. The
    first of torch-compile sets TORCHINDUCTOR_CACHE_DIR to a folder of the user's cache, if unset.

    ``normalise``, one of ``asrprune list normalisers``, and ``language`` (ISO 639-1; it matters to
    the letter i of "tr" and "az") go before the text form that the LM states.

    ``size``: what an elastic LM (``asrprune prune --schedule elastic``) is cut to: the fraction of
    the prunable weights removed (0.5), the most megabytes of its weights ("12MB"), or how many
    times as fast as its largest size ("2.5x", of an LM on disk): measured in seconds on drawn
    lists with this ``engine``, once for each LM and processor.

    ``score_lists`` of the result takes lists of strings, one list an utterance. Raises InputError
    for a path that holds no LM, TypeError for an object that is none, ValueError for an unknown
    engine or device and for options that the LM has no use for.

    >>> import asrprune
    >>> from asrprune.api.example import tiny_lm
    >>> lm = asrprune.open_lm(tiny_lm(), threads=1)
    >>> good, bad = lm.score_lists([["the cat sat", "sat cat the"]])[0]
    >>> bool(good > bad)
    True
    """
    given = {
        "tokenizer": tokenizer,
        "threads": threads,
        "device": device,
        "calibration": calibration,
        "token_budget": token_budget,
        "over_long": over_long,
        "size": size,
    }
    text = TextOptions(normalise, language=language)
    if isinstance(lm, (str, os.PathLike)) and opening.is_ngram(lm):
        _check_no_options(lm, engine, given)
        return opening.open_lm(lm, text=text)
    if tokenizer is not None and not isinstance(lm, TransformerLM):
        raise ValueError("tokenizer is given; expected none, as a checkpoint has its own")
    scoring = ScoringOptions(token_budget, "error" if over_long is None else over_long)
    if isinstance(lm, (str, os.PathLike)):
        options = EngineOptions(threads, device or "auto", calibration)
        times = None if size is None else parse_speed(size)
        if times is not None:
            size = sparsity_at_speed(lm, times, engine, options)
        return opening.open_lm(lm, engine, options, scoring, text, size=size)
    if size is not None:
        lm = as_checkpoint(lm).cut(size)  # type: ignore[arg-type]
    model, tokens, name = _parts(lm, tokenizer, text)
    options = EngineOptions(threads, device or str(model.device), calibration)
    if engine not in CHOICES and not lookup(ENGINES, engine, "engine").gpu:
        options = replace(options, device=device or "cpu")
    target = resolve_device(options.device)
    if target != model.device:
        model = copy.deepcopy(model).to(target)
    return opening.open_model(model, tokens, engine, options, scoring, name)


def load_checkpoint(path: PathLike, device: str = "cpu", size: Optional[Size] = None) -> Checkpoint:
    """The LM in a checkpoint folder, to be scored, pruned or changed in memory; ``size``, as for
    ``open_lm``, makes an ordinary LM of an elastic one; a speed is that of the fastest engine.

    ``model`` of the result is a torch module in evaluation mode on ``device`` ("cpu", "cuda", ...
    or "auto"). Raises InputError for a folder that is not a checkpoint of asrprune or whose files
    do not fit together, ValueError for a device that is not there.

    >>> import asrprune, tempfile
    >>> from asrprune.api.example import tiny_lm
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = asrprune.load_checkpoint(asrprune.save_checkpoint(folder, tiny_lm()))
    >>> checkpoint.model.shape.d_model, len(checkpoint.model.blocks)
    (32, 2)
    """
    times = None if size is None else parse_speed(size)
    if times is not None:
        size = sparsity_at_speed(path, times, options=EngineOptions(device=device))
    return folders.load_checkpoint(path, str(resolve_device(device)), size=size)


def save_checkpoint(path: PathLike, checkpoint: Checkpoint) -> Path:
    """Write the checkpoint as the folder ``path``, whole or not at all; returns the path.

    ``checkpoint`` is that of ``load_checkpoint``, with whatever was done to its model, or one of
    those that ``prune_lm`` gives. Weights are written in the number format that they came in, or in
    the model's, where that is another than float32. Every verb of the ``asrprune`` command takes
    the folder. A checkpoint that is there already is replaced. Raises InputError, with nothing
    changed, for a folder that holds any other file; TypeError for anything else than a checkpoint,
    a bare torch module too: it would lack its tokeniser.

    >>> import asrprune, tempfile
    >>> from asrprune.api.example import tiny_lm
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = asrprune.save_checkpoint(f"{folder}/lm", tiny_lm())
    ...     sorted(file.name for file in path.iterdir())
    ['config.json', 'model.safetensors', 'tokenizer.model']
    """
    made = as_checkpoint(checkpoint)
    folders.check_replaceable(path)
    numbers = made.stored if made.model.dtype == torch.float32 else made.model.dtype
    return folders.save_checkpoint(
        path,
        made.model,
        made.tokenizer_path,
        made.provenance,
        made.history,
        made.form,
        numbers,
        made.elastic,
    )


def as_language_model(lm: AnyLM) -> LanguageModel:
    """What scores sentences; a checkpoint is opened with the engine torch.

    Raises TypeError for what is no LM of ours.
    """
    if isinstance(lm, LanguageModel):
        return lm
    if isinstance(lm, Checkpoint):
        return open_lm(lm)
    raise wrong_lm(lm)


def as_checkpoint(lm: Checkpoint) -> Checkpoint:
    """The checkpoint. Raises TypeError for anything else."""
    if isinstance(lm, Checkpoint):
        return lm
    if isinstance(lm, LanguageModel):
        raise TypeError(
            f"expected a checkpoint: load_checkpoint(PATH); got {public_name(type(lm))}"
        )
    raise wrong_lm(lm)


def wrong_lm(lm: object) -> TypeError:
    """The error for an object in the place of an LM."""
    if isinstance(lm, TransformerLM):
        how = "open_lm(MODEL, tokenizer=PATH), or a Checkpoint of both"
        return TypeError(f"expected an LM with its tokeniser: {how}; got {public_name(type(lm))}")
    return TypeError(f"{_EXPECTED}; got {public_name(type(lm))}")


def public_name(kind: type) -> str:
    """A class as it is imported, by the shortest way.

    >>> import torch
    >>> public_name(torch.nn.Linear), public_name(str)
    ('torch.nn.Linear', 'str')
    """
    module, name = kind.__module__, kind.__qualname__
    if module == "builtins":
        return name
    parts = module.split(".")
    for package in (".".join(parts[:length]) for length in range(1, len(parts))):
        if package in sys.modules and vars(sys.modules[package]).get(name) is kind:
            return f"{package}.{name}"
    return f"{module}.{name}"


def _check_no_options(path: PathLike, engine: str, given: Mapping[str, Any]) -> None:
    stated = [name for name, value in given.items() if value is not None]
    if engine != "torch":
        stated.insert(0, "engine")
    if stated:
        raise ValueError(f"{stated[0]} has no use for an n-gram LM ({os.fspath(path)})")


def _parts(
    lm: Union[Checkpoint, TransformerLM],
    tokenizer: Optional[Union[PathLike, Tokenizer]],
    text: TextOptions,
) -> tuple[TransformerLM, Tokenizer, str]:
    """Model, tokeniser and name of an LM in memory."""
    if isinstance(lm, Checkpoint):
        name = "checkpoint in memory" if lm.path is None else opening.short_name(lm.path)
        return lm.model, lm.tokenizer(text), name
    if not isinstance(lm, TransformerLM) or tokenizer is None:
        raise wrong_lm(lm)
    tokens = tokenizer
    if isinstance(tokens, (str, os.PathLike)):
        tokens = Tokenizer(tokens, options=text)
    elif (text.normaliser, text.language) != (None, None):
        stated = "normalise" if text.normaliser is not None else "language"
        raise ValueError(f"{stated} has no use for a tokenizer in memory, which has its form")
    size = lm.shape.vocab_size
    if tokens.vocab_size != size:
        raise ValueError(f"the tokenizer has {tokens.vocab_size} ids; expected {size}, the LM's")
    return lm, tokens, "model in memory"
