"""Opening any language model by its path, whatever it is made of."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import asdict
from typing import Optional

import torch

from asrprune.core.tables import lookup
from asrprune.errors import InputError
from asrprune.files import PathLike, sha256
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.padded import PaddedScorer
from asrprune.lm.engines.pytorch.prefixes import CachedPrefixes, PrefixOptions
from asrprune.lm.engines.table import (
    CHOICES,
    EARLY,
    ENGINES,
    KEEPING,
    EngineRow,
    check_engine,
    open_engine,
)
from asrprune.lm.fastest import Sample, choose
from asrprune.lm.model.checkpoint import (
    CONFIG,
    cut_steps,
    is_checkpoint,
    load_checkpoint,
    weights_digest,
)
from asrprune.lm.model.elastic import Size
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.ngram import NgramLM
from asrprune.lm.protocol import LanguageModel, PrefixLM
from asrprune.lm.scoring.early import EarlyOptions, EarlyScorer
from asrprune.lm.scoring.forests import ScoringOptions
from asrprune.lm.scoring.sentences import TransformerScorer
from asrprune.text.form import TextOptions
from asrprune.text.tokenizer import Tokenizer, tokenizer_in

_PREFIX_ENGINE = "engine with kept keys and values"

NGRAM_SUFFIXES = (".arpa", ".arpa.gz", ".bin", ".klm")


def is_ngram(path: PathLike) -> bool:
    """Whether ``path`` names an n-gram model, by its ending; it need not be there."""
    return not os.path.isdir(path) and os.fspath(path).endswith(NGRAM_SUFFIXES)


def open_lm(
    path: PathLike,
    engine: str = "torch",
    engine_options: Optional[EngineOptions] = None,
    scoring_options: Optional[ScoringOptions] = None,
    text: Optional[TextOptions] = None,
    sample: Optional[Sample] = None,
    size: Optional[Size] = None,
) -> LanguageModel:
    """The language model at ``path``: a checkpoint folder, or an n-gram model's file.

    ``engine`` is one of ENGINES, or of CHOICES, measured on ``sample`` as in ``fastest.choose``; it
    and its options concern checkpoints only, as does ``size``, that of an elastic one to cut it to.
    ``text`` goes before the text form that the LM states. Raises InputError for a path that is
    neither, ValueError for an unknown engine or device; as ``load_checkpoint`` does for a size.
    """
    if is_checkpoint(path) or os.path.isdir(path):
        kept = None
        if engine not in CHOICES:
            kept = check_engine(engine, engine_options or EngineOptions()).kept
        checkpoint = load_checkpoint(path, dtype=kept or torch.float32, mapped=True, size=size)
        model, tokenizer = checkpoint.model, checkpoint.tokenizer(text)
        name = short_name(path, size)
        return open_model(model, tokenizer, engine, engine_options, scoring_options, name, sample)
    if is_ngram(path):
        return NgramLM(path, text=text)
    found = (
        "neither a checkpoint folder nor an n-gram file" if os.path.exists(path) else "no such path"
    )
    expected = f"a checkpoint folder or a file ending in {', '.join(NGRAM_SUFFIXES)}"
    raise InputError(path, None, found, expected)


def open_model(
    model: TransformerLM,
    tokenizer: Tokenizer,
    engine: str = "torch",
    engine_options: Optional[EngineOptions] = None,
    scoring_options: Optional[ScoringOptions] = None,
    name: str = "transformer",
    sample: Optional[Sample] = None,
) -> TransformerScorer:
    """The language model of a module in memory; ``engine`` and ``sample`` as in ``open_lm``.

    Engines of torch compute with the module itself: they put it on their device and into evaluation
    mode. Raises ValueError for an unknown engine or device.
    """
    engine_options = engine_options or EngineOptions()
    scoring_options = scoring_options or ScoringOptions()
    choice = None
    if engine in CHOICES:
        choice = choose(engine, model, tokenizer, engine_options, scoring_options, sample)
        engine = choice.engine
    policy = scoring_options.over_long
    kept = PrefixOptions(over_long="error" if policy == "window" else policy)
    prefixes = functools.partial(
        _open_prefixes, model, tokenizer, engine, engine_options, kept, name
    )
    return TransformerScorer(
        open_engine(engine, model, engine_options, tokenizer),
        tokenizer,
        model.max_positions,
        scoring_options,
        name,
        engine,
        prefixes,
        None if choice is None else asdict(choice),
    )


def open_prefix_lm(
    path: PathLike,
    engine: str = "torch",
    engine_options: Optional[EngineOptions] = None,
    options: Optional[PrefixOptions] = None,
    text: Optional[TextOptions] = None,
    size: Optional[Size] = None,
) -> PrefixLM:
    """The language model at ``path`` for a search that asks word by word; ``text`` and ``size`` as
    for ``open_lm``.

    ``engine`` is one of KEEPING, those that keep keys and values. Raises InputError as
    ``open_lm`` does, ValueError for another engine.
    """
    if not (is_checkpoint(path) or os.path.isdir(path)):
        return open_lm(path, text=text).prefixes()
    _among(KEEPING, engine, _PREFIX_ENGINE)
    checkpoint = load_checkpoint(path, mapped=True, size=size)
    model, tokenizer, name = checkpoint.model, checkpoint.tokenizer(text), short_name(path, size)
    return _open_prefixes(model, tokenizer, engine, engine_options, options, name)


def _open_prefixes(
    model: TransformerLM,
    tokenizer: Tokenizer,
    engine: str,
    engine_options: Optional[EngineOptions],
    options: Optional[PrefixOptions],
    name: str,
) -> CachedPrefixes:
    dtype = _among(KEEPING, engine, _PREFIX_ENGINE).kept
    assert dtype is not None  # KEEPING says so
    return CachedPrefixes(model, tokenizer, dtype, engine_options, options, name)


def open_early(
    path: PathLike,
    engine: str = "torch",
    engine_options: Optional[EngineOptions] = None,
    options: Optional[EarlyOptions] = None,
    text: Optional[TextOptions] = None,
) -> EarlyScorer:
    """The scorer of the checkpoint in folder ``path``; ``engine`` is one of EARLY.

    Raises InputError for what is no checkpoint, ValueError for an engine that keeps no keys and
    values here.
    """
    row = _among(EARLY, engine, "engine for early termination")
    assert row.nodes is not None  # EARLY says so
    checkpoint = load_checkpoint(path, mapped=True)
    tokenizer, limit = checkpoint.tokenizer(text), checkpoint.model.shape.max_positions
    options = EarlyOptions(slack=row.slack) if options is None else options
    engine_options = engine_options or EngineOptions()
    made = open_engine(engine, checkpoint.model, engine_options, tokenizer)
    whole = TransformerScorer(made, tokenizer, limit, ScoringOptions(options.token_budget))
    nodes = row.nodes(checkpoint.model, made, engine_options)
    return EarlyScorer(nodes, tokenizer, limit, whole.score_lists, options)


def open_padded(
    path: PathLike,
    options: EngineOptions,
    scoring: Optional[ScoringOptions] = None,
    text: Optional[TextOptions] = None,
    size: Optional[Size] = None,
) -> PaddedScorer:
    """The baseline for the checkpoint in folder ``path``; ``size`` as for ``open_lm``. Raises
    InputError for anything else, ValueError for over-long hypotheses that are to get -inf."""
    scoring = scoring or ScoringOptions()
    checkpoint = load_checkpoint(path, mapped=True, size=size)
    return PaddedScorer(
        checkpoint.model,
        checkpoint.tokenizer(text),
        options,
        scoring.token_budget,
        over_long=scoring.over_long,
    )


def _among(names: tuple[str, ...], engine: str, what: str) -> EngineRow:
    return lookup({name: ENGINES[name] for name in names}, engine, what)


def short_name(path: PathLike, size: Optional[Size] = None) -> str:
    """What an LM is called: the name of its folder or file, of a member of a pruned family with the
    family's, and the size that an elastic one is cut to.

    >>> short_name("exp/dense"), short_name("exp/small/sparsity-0.50"), short_name("exp/el", 0.5)
    ('dense', 'small/sparsity-0.50', 'el@0.5')
    """
    folder, name = os.path.split(os.path.normpath(os.fspath(path)))
    family = os.path.basename(folder)
    name = f"{family}/{name}" if family and name.startswith("sparsity-") else name
    return name if size is None else f"{name}@{size}"


def lm_digest(path: PathLike, size: Optional[Size] = None) -> str:
    """A hash of everything that decides the model's scores: weights, shape and tokeniser; of an
    elastic LM also the ``size`` that it is cut to. Raises as ``load_checkpoint`` does for it."""
    if not is_checkpoint(path):
        return sha256(path)[:16]
    config, tokenizer = sha256(os.path.join(path, CONFIG)), sha256(tokenizer_in(path))
    parts = [config, weights_digest(path), tokenizer]
    cut = 0 if size is None else cut_steps(path, size)
    parts += [f"cut by {cut}"] * (cut > 0)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
