"""The tokens of a decoder against the pieces of an LM: the same list, or the same names."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from asrprune.files import PathLike
from asrprune.text.tokenizer import PieceModel
from asrprune.text.tokens_file import BLANKS, check_tokens


def check_same_tokens(tokens: PathLike | Sequence[str], pieces: PieceModel) -> None:
    """Raises unless ``tokens`` are the LM's pieces, id by id: InputError for a ``tokens.txt``,
    ValueError for a list; the error names the first difference. Names of the blank, which is the
    token 0, are taken for each other."""
    if isinstance(tokens, (str, os.PathLike)):
        check_tokens(tokens, pieces)
        return
    for index, token in enumerate(tokens[: pieces.vocab_size]):
        piece = pieces.piece(index)
        if token != piece and not (index == 0 and {token, piece} <= set(BLANKS)):
            found = f"the decoder's token {index} is {token!r}"
            raise ValueError(f"{found}; expected {piece!r}, the LM's piece with that id")
    if len(tokens) != pieces.vocab_size:
        found = f"the decoder has {len(tokens)} tokens"
        raise ValueError(f"{found}; expected {pieces.vocab_size}, as the LM has pieces")


def ids_by_name(
    tokens: Sequence[str], pieces: PieceModel, without: Collection[str] = ()
) -> list[int | None]:
    """The LM's id of the piece with the name of each token, [tokens]; None for those of
    ``without`` (the blank, a silence), which the LM never sees.

    Raises ValueError that names the first token without a piece.
    """
    known = {pieces.piece(index): index for index in range(pieces.vocab_size)}
    ids: list[int | None] = []
    for index, token in enumerate(tokens):
        if token not in known and token not in without:
            found = f"the decoder's token {index}, {token!r}, is no piece of the LM"
            raise ValueError(f"{found}; expected one of its {pieces.vocab_size} pieces")
        ids.append(None if token in without else known[token])
    return ids
