"""Importing: an LM of another toolkit as a checkpoint, exact or refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor

from asrprune.core.tables import lookup
from asrprune.errors import InputError
from asrprune.exchange.foreign import ForeignLM
from asrprune.exchange.read_gguf import read_gguf
from asrprune.exchange.read_hugging_face import read_hugging_face
from asrprune.files import PathLike
from asrprune.lm.model.checkpoint import save_checkpoint
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.text.form import TextForm
from asrprune.text.marked import MarkedTokenizer, marked_text, open_pieces
from asrprune.text.sentence import NEWLINE, SENTENCE_FORMS, SentenceMarks

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Number formats in which weights are stored."""

MOST_POSITIONS = 1024
"""Positions that are kept unless more are asked for: sentences are shorter."""


@dataclass(frozen=True)
class Partner:
    """``read(path)`` gives the LM at a path of the partner's."""

    read: Callable[[PathLike], ForeignLM]
    description: str


PARTNERS: Mapping[str, Partner] = {
    "hugging-face": Partner(
        read_hugging_face, "folder of transformers: gpt2, llama, mistral, qwen2; safetensors"
    ),
    "gguf": Partner(read_gguf, "file of llama.cpp: gpt2, llama, qwen2 with byte-level BPE"),
}
"""Name -> what can be imported."""


@dataclass(frozen=True)
class ImportOptions:
    """How the LM scores a sentence, and how it is stored.

    ``begin`` and ``end`` name the tokens around a sentence, None: those that the partner's files
    state. ``prompt`` is text before every sentence, never scored; ``sentence_form`` one of
    SENTENCE_FORMS; ``form`` the text form that the LM wants. ``positions``: most tokens of a
    sentence, None: the LM's own, up to MOST_POSITIONS; fewer change no score. ``dtype`` is one of
    DTYPES.
    """

    begin: Optional[str] = None
    end: Optional[str] = None
    prompt: str = ""
    sentence_form: str = "plain"
    form: TextForm = field(default_factory=TextForm)
    positions: Optional[int] = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        lookup(SENTENCE_FORMS, self.sentence_form, "sentence form")
        lookup(DTYPES, self.dtype, "dtype")


def import_lm(
    partner: str,
    path: PathLike,
    out: PathLike,
    options: Optional[ImportOptions] = None,
    provenance: Optional[Mapping[str, Any]] = None,
) -> Path:
    """Write the LM at ``path`` as the checkpoint folder ``out``, whole or not at all.

    ``partner`` is one of PARTNERS. Raises InputError for what is no LM of theirs or is not computed
    exactly here, ValueError for an unknown partner or option and for a mark that the tokeniser does
    not have, MissingPackage for a library that reading needs.
    """
    options = options or ImportOptions()
    foreign = lookup(PARTNERS, partner, "partner").read(path)
    shape = replace(foreign.shape, max_positions=_positions(foreign.shape, options))
    text = marked_text(foreign.pieces, _marks(foreign, options, path), options.form)
    tokenizer = MarkedTokenizer(path, text)
    around = 2 + len(tokenizer.prompt) + len(tokenizer.tail)
    if around > shape.max_positions:
        found = f"prompt of {len(tokenizer.prompt)} tokens"
        raise ValueError(f"{found}; expected one that leaves room in {shape.max_positions}")
    model = _model(foreign, shape, DTYPES[options.dtype], path)
    return save_checkpoint(out, model, text.encode(), provenance or {}, form=options.form)


def _positions(shape: ModelShape, options: ImportOptions) -> int:
    if options.positions is None:
        return min(shape.max_positions, MOST_POSITIONS)
    if options.positions > shape.max_positions:
        found = f"positions is {options.positions}"
        raise ValueError(f"{found}; expected at most {shape.max_positions}, those of the LM")
    return options.positions


def _model(
    foreign: ForeignLM, shape: ModelShape, dtype: torch.dtype, path: PathLike
) -> TransformerLM:
    """The module with the tensors read one by one. Raises InputError for weights that are no
    numbers, before or after they are put into ``dtype``."""
    with torch.device("meta"):
        model = TransformerLM(shape)
    state: dict[str, Tensor] = {}
    for name, load in foreign.tensors.items():
        value = load()
        if name == "positions":
            value = value[: shape.max_positions].clone()
        value = value.to(dtype).contiguous()
        if not bool(torch.isfinite(value).all()):
            found = f"{name} holds numbers that are not finite"
            raise InputError(path, None, found, f"weights that are numbers as {dtype}")
        state[name] = value
    model.load_state_dict(state, assign=True)
    return model.eval()


def _marks(foreign: ForeignLM, options: ImportOptions, path: PathLike) -> SentenceMarks:
    """The marks that the files state, with those of the call before them."""
    pieces = open_pieces(foreign.pieces, path)
    form = SENTENCE_FORMS[options.sentence_form]
    end, begin = foreign.end, foreign.begin
    if options.end is not None:
        end = _token(pieces, options.end, "end")
    if end is None and not form.newline:
        raise InputError(path, None, "no end token in its files", "one, or --end TOKEN")
    last = _token(pieces, NEWLINE, "newline") if form.newline else end
    assert last is not None  # the two lines above
    if options.begin is not None:
        begin = _token(pieces, options.begin, "begin")
    if begin is None:  # texts stand behind one another's end
        begin = last if end is None else end
    unknown = last if foreign.unknown is None else foreign.unknown
    try:
        return SentenceMarks(
            begin, last, unknown, foreign.shape.vocab_size, form.stop, options.prompt
        )
    except ValueError as problem:
        if options.prompt and "prompt" in str(problem):
            raise
        found, _, expected = str(problem).partition("; expected ")
        raise InputError(path, None, found, expected) from None


def _token(pieces: Any, text: str, what: str) -> int:
    """The id of the piece called ``text``, or of the only one that spells it."""
    index = pieces.token_to_id(text)
    if index is not None:
        return int(index)
    ids = pieces.encode(text, add_special_tokens=False).ids
    if len(ids) != 1:
        raise ValueError(f"{what} is {text!r}, {len(ids)} tokens; expected one token of the LM")
    return int(ids[0])
