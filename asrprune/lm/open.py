"""Opening any language model by its path, whatever it is made of."""

from __future__ import annotations

import hashlib
import os
from typing import Optional

from asrprune.core.tables import lookup
from asrprune.errors import InputError
from asrprune.files import PathLike, sha256
from asrprune.lm.engines.pytorch.nodes import KEPT_TYPES
from asrprune.lm.engines.pytorch.prefixes import CachedPrefixes, PrefixOptions
from asrprune.lm.engines.table import ENGINES, EngineOptions
from asrprune.lm.model.checkpoint import CONFIG, TOKENIZER, WEIGHTS, is_checkpoint, load_checkpoint
from asrprune.lm.prefixes import NgramPrefixes, PrefixLM
from asrprune.lm.protocol import LanguageModel
from asrprune.lm.scoring.sentences import ScoringOptions, TransformerScorer
from asrprune.lm.scoring.words import WordEncoder

NGRAM_SUFFIXES = (".arpa", ".arpa.gz", ".bin", ".klm")


def open_lm(
    path: PathLike,
    engine: str = "torch",
    engine_options: Optional[EngineOptions] = None,
    scoring_options: Optional[ScoringOptions] = None,
) -> LanguageModel:
    """The language model at ``path``: a checkpoint folder, or an n-gram model's file.

    ``engine`` is one of ENGINES; it and the options concern checkpoints only. Raises InputError
    for a path that is neither, ValueError for an unknown engine or device.
    """
    name = os.fspath(path)
    if is_checkpoint(path) or os.path.isdir(path):
        make = lookup(ENGINES, engine, "engine")
        checkpoint = load_checkpoint(path)
        from asrprune.text.tokenizer import Tokenizer

        tokenizer = Tokenizer(checkpoint.tokenizer_path)
        shape = checkpoint.model.shape
        return TransformerScorer(
            make(checkpoint, engine_options or EngineOptions()),
            tokenizer.encode_batch,
            shape.max_positions,
            options=scoring_options,
            name=os.path.basename(os.path.normpath(name)),
        )
    if name.endswith(NGRAM_SUFFIXES):
        if not os.path.isfile(path):
            raise InputError(path, None, "no such file", "an n-gram model")
        from asrprune.lm.ngram import NgramLM

        model: LanguageModel = NgramLM(path)
        return model
    found = (
        "neither a checkpoint folder nor an n-gram file" if os.path.exists(path) else "no such path"
    )
    expected = f"a checkpoint folder or a file ending in {', '.join(NGRAM_SUFFIXES)}"
    raise InputError(path, None, found, expected)


def open_prefix_lm(
    path: PathLike,
    engine: str = "torch",
    engine_options: Optional[EngineOptions] = None,
    options: Optional[PrefixOptions] = None,
) -> PrefixLM:
    """The language model at ``path`` for a search that asks word by word.

    ``engine`` is one of KEPT_TYPES, those that keep keys and values. Raises InputError as
    ``open_lm`` does, ValueError for another engine.
    """
    if not (is_checkpoint(path) or os.path.isdir(path)):
        from asrprune.lm.ngram import NgramLM

        lm = open_lm(path)
        assert isinstance(lm, NgramLM)  # it is no checkpoint
        return NgramPrefixes(lm)
    from asrprune.text.tokenizer import Tokenizer

    dtype = lookup(KEPT_TYPES, engine, "engine with kept keys and values")
    checkpoint = load_checkpoint(path)
    encode = WordEncoder(Tokenizer(checkpoint.tokenizer_path).encode_batch)
    name = os.path.basename(os.path.normpath(os.fspath(path)))
    return CachedPrefixes(checkpoint.model, encode, dtype, engine_options, options, name)


def lm_digest(path: PathLike) -> str:
    """A hash of everything that decides the model's scores: weights, shape and tokeniser."""
    if not is_checkpoint(path):
        return sha256(path)[:16]
    parts = [sha256(os.path.join(path, name)) for name in (CONFIG, WEIGHTS, TOKENIZER)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
