"""Vocabulary trimming: a checkpoint without the pieces that a text never uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

import torch
from torch import Tensor, nn

from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.lm.model.checkpoint import Checkpoint, save_checkpoint
from asrprune.lm.model.transformer import TransformerLM
from asrprune.text.form import TextOptions
from asrprune.text.marked import MarkedTokenizer, marked_text
from asrprune.text.trimming import trimmed


@dataclass(frozen=True)
class Trimming:
    """What was kept: ``pieces`` of ``of`` pieces, and how many ``words`` they were kept for."""

    pieces: int
    of: int
    words: int


def trim_vocabulary(
    checkpoint: Checkpoint,
    words: Iterable[str],
    out: PathLike,
    options: Optional[TextOptions] = None,
    provenance: Optional[Mapping[str, Any]] = None,
) -> Trimming:
    """Write the LM without the pieces that none of the ``words`` needs, as the folder ``out``.

    Every sentence of these words, in any order, is cut as before. Its score is that of the LM whose
    softmax runs over the kept pieces only: ln P rises by what the others had. ``checkpoint.model``
    is changed. Raises InputError for an LM whose tokeniser is not that of an imported LM.
    """
    tokenizer = checkpoint.tokenizer(options)
    pieces = tokenizer.model
    if not isinstance(pieces, MarkedTokenizer):
        found = "a SentencePiece model"
        expected = "the tokenizer of an imported LM, which alone is trimmed"
        raise InputError(checkpoint.tokenizer_path, None, found, expected)
    distinct = sorted(set(words))
    made = trimmed(pieces, tokenizer.ids_of(distinct))
    keep_pieces(checkpoint.model, torch.tensor(made.kept))
    save_checkpoint(
        out,
        checkpoint.model,
        marked_text(made.pieces, made.marks, pieces.form).encode(),
        {**(provenance or {}), "parent": dict(checkpoint.provenance)},
        checkpoint.history,
        checkpoint.form,
        checkpoint.stored,
        checkpoint.elastic,
    )
    return Trimming(len(made.kept), pieces.vocab_size, len(distinct))


def keep_pieces(model: TransformerLM, kept: Tensor) -> None:
    """Leave the model only the pieces with the ids ``kept`` [V'], in that order."""
    embedding = model.embedding
    kept = kept.to(model.device)
    embedding.weight = nn.Parameter(embedding.weight.detach()[kept])
    if embedding.output is not None:
        embedding.output = nn.Parameter(embedding.output.detach()[kept])
