"""Which tokens begin and end a sentence and stand for what is unknown: Hugging Face folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from asrprune.core.record import Record, a_count, a_string, anything, read_record
from asrprune.errors import InputError
from asrprune.files import read_json


def stated_marks(
    tokenizer: Path, tokenizer_config: Path, config: Record
) -> tuple[Optional[int], Optional[int], Optional[int]]:
    """Ids of the begin, end and unknown tokens: those of the tokenizer's config, else of the
    model's; the unknown one at last that of the tokenizer itself."""
    value = read_json(tokenizer)
    if not isinstance(value, dict):
        raise InputError(tokenizer, None, f"a {type(value).__name__}", "a tokenizer.json")
    record = Record(tokenizer, value)
    model = {} if record.find("model", anything) is None else record.part("model").values
    ids = _ids(record, model)
    stated = read_record(tokenizer_config).values if tokenizer_config.is_file() else {}
    found: list[Optional[int]] = []
    for name in ("bos", "eos", "unk"):
        token = stated.get(f"{name}_token")
        token = token.get("content") if isinstance(token, dict) else token
        index = config.values.get(f"{name}_token_id")
        index = index[0] if isinstance(index, list) and index else index
        if isinstance(token, str) and token in ids:
            found.append(ids[token])
        else:
            found.append(index if type(index) is int else None)
    begin, end, unknown = found
    if unknown is None:
        token, index = model.get("unk_token"), model.get("unk_id")
        unknown = ids.get(token) if isinstance(token, str) else index
        unknown = unknown if type(unknown) is int else None
    return begin, end, unknown


def _ids(record: Record, model: dict[str, Any]) -> dict[str, int]:
    """Content -> id of the pieces and added tokens of a tokenizer.json."""
    pieces = model.get("vocab")
    ids: dict[str, int] = {}
    if isinstance(pieces, dict):
        ids.update((piece, index) for piece, index in pieces.items() if type(index) is int)
    elif isinstance(pieces, list):  # of pieces with their scores
        ids.update((one[0], index) for index, one in enumerate(pieces) if _is_piece(one))
    if record.find("added_tokens", anything) is not None:
        for one in record.parts("added_tokens"):
            ids[one.get("content", a_string)] = one.get("id", a_count)
    return ids


def _is_piece(one: Any) -> bool:
    return isinstance(one, list) and bool(one) and isinstance(one[0], str)
