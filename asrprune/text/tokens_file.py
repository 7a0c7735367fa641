"""``tokens.txt``: the tokens of a transducer with their ids, as in icefall, k2 and sherpa-onnx.

A line is a token, a blank and its id; a line with an id alone is the token of one space. Ids 0, 1,
... are all there; ``#0``, ``#1``, ... at the end are disambiguation symbols, which no model knows.
"""

from __future__ import annotations

import re

from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
from asrprune.text.tokenizer import PieceModel

BLANKS = ("<blk>", "<blank>", "<eps>")
"""Names of the token 0, which a transducer puts out for nothing."""

_DISAMBIGUATION = re.compile(r"#\d+", re.ASCII)


def check_tokens(path: PathLike, model: PieceModel) -> None:
    """Raises InputError unless the tokens of the file are the pieces of ``model``, id by id, with a
    blank as token 0; its line says which differs first."""
    lines = _read(path)
    pieces = model.vocab_size
    for index in range(max(len(lines), pieces)):
        if index not in lines:
            missing = max(lines, default=-1) < index
            found = f"{len(lines)} tokens" if missing else f"no token with the id {index}"
            expected = f"{pieces} tokens, as the LM has pieces" if missing else "each id once"
            raise InputError(path, None, found, expected)
        number, token = lines[index]
        if index >= pieces:
            found = f"token {token!r} with the id {index}"
            raise InputError(path, number, found, f"at most {pieces} tokens, as the LM has pieces")
        if index == 0 and token not in BLANKS:
            found = f"token {token!r} with the id 0"
            raise InputError(path, number, found, f"a blank there ({', '.join(BLANKS)})")
        piece = model.piece(index)
        if token != piece and not (index == 0 and piece in BLANKS):
            found = f"token {token!r} with the id {index}"
            raise InputError(path, number, found, f"{piece!r}, the LM's piece with that id")


def _read(path: PathLike) -> dict[int, tuple[int, str]]:
    """Id -> line and token, disambiguation symbols left out."""
    lines: dict[int, tuple[int, str]] = {}
    for number, line in read_lines(path):
        *token, last = line.split() or [""]
        if not (last.isascii() and last.isdigit() and len(last) < 10) or len(token) > 1:
            raise InputError(path, number, repr(line[:60]), "a token and its id")
        index = int(last)
        if index in lines:
            found = f"the id {index} again (first in line {lines[index][0]})"
            raise InputError(path, number, found, "each id once")
        lines[index] = number, token[0] if token else " "
    while lines and _DISAMBIGUATION.fullmatch(lines[max(lines)][1]):
        del lines[max(lines)]
    return lines
