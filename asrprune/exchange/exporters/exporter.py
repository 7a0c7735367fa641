"""What an exporter is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Optional

from asrprune.files import PathLike
from asrprune.lm.model.transformer import TransformerLM
from asrprune.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Request:
    """``form`` and ``numbers`` are of those that the exporter offers. ``tokens``: the partner's
    list of tokens, which the LM's must equal. ``lm_digest`` names the checkpoint."""

    lm: PathLike
    model: TransformerLM
    tokenizer: Tokenizer
    tokenizer_path: PathLike
    lm_digest: str
    form: str
    numbers: str
    verify: bool = True
    tokens: Optional[PathLike] = None


@dataclass(frozen=True)
class Written:
    """What was written: bytes, what it was checked by ("": it was not), and the largest difference
    of a score that the check found, in nats."""

    size_bytes: int
    verified: str
    largest: Optional[float] = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exporter:
    """A partner. ``forms`` (name -> what it is) and ``numbers``: the first is the default.

    ``write(request, out)`` writes a file, or a folder with ``is_folder``, whole or not at all; it
    raises InputError for an LM that the partner cannot take or whose scores are not found again.
    ``needs_tokens``: ``Request.tokens`` must be given.
    """

    description: str
    forms: Mapping[str, str]
    numbers: tuple[str, ...]
    write: Callable[[Request, PathLike], Written]
    is_folder: bool = False
    needs_tokens: bool = False
