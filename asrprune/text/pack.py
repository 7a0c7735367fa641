"""Text files to the folder of a token stream: what ``asrprune tokenize`` does.

Every file is read as a stream, so the text may be larger than memory; only the tokeniser's sample
is held. Empty lines (also those that normalisation empties) are left out and counted.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO, Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.checksums import BlockSums, crc32_of, write_sealed
from asrprune.core.progress import tracked
from asrprune.core.units import WORD, unspaced_words
from asrprune.errors import InputError
from asrprune.files import PathLike, open_binary, read_lines, sha256, write_folder
from asrprune.text import corpus
from asrprune.text.form import Speller, TextForm, case_shown
from asrprune.text.normalise import Normaliser
from asrprune.text.sentencepiece import TokenizerConfig, train_tokenizer
from asrprune.text.tokenizer import (
    TOKENIZER_NAMES,
    PieceModel,
    Tokenizer,
    open_pieces,
    tokenizer_name,
    without_unknown,
)

_LINES_AT_ONCE = 10_000

log = logging.getLogger(__name__)


def pack_corpus(
    train: Sequence[PathLike],
    valid: Optional[PathLike],
    config: TokenizerConfig,
    out: PathLike,
    form: Optional[TextForm] = None,
    tokenizer: Optional[PathLike] = None,
) -> corpus.Corpus:
    """The corpus written to folder ``out``, whole or not at all.

    ``train`` and ``valid`` hold one sentence a line; ``.gz`` and ``.xz`` are unpacked, ``-`` is
    standard input (at most once). Lines are put into ``form``; the folder states it with the case
    of the letters that were found, as what an LM of this text wants. ``tokenizer`` names an
    existing tokeniser (a SentencePiece model, or that of an imported LM) to use instead of training
    one under ``config``; text is put into the form that it states, or the case of its letters.

    Raises InputError for unreadable input or a set without a sentence, ValueError for a vocabulary
    size that does not suit the text.
    """
    form = form or TextForm()
    given = None if tokenizer is None else open_pieces(tokenizer)
    if given is not None:
        form = _form_of(given, form)
    normal_form = Speller(form).line
    names = [os.fspath(path) for path in [*train, *([] if valid is None else [valid])]]
    if names.count("-") > 1:
        raise ValueError("standard input (-) is given more than once; expected once at most")
    with write_folder(out) as folder, _spooled(names, folder) as places:
        train_files = [(os.fspath(path), places[os.fspath(path)]) for path in train]
        place = folder / TOKENIZER_NAMES[0]
        if tokenizer is not None:
            place = folder / tokenizer_name(tokenizer)
            shutil.copyfile(tokenizer, place)
        else:
            lines = (s for name, place in train_files for s in _read(name, place, normal_form))
            sentences = filter(None, map(without_unknown, lines))
            first = next(sentences, None)
            if first is None:
                raise _no_sentence(train_files, "train")
            trained = train_tokenizer(itertools.chain([first], sentences), config)
            place.write_bytes(trained)
        model = open_pieces(place) if given is None else given
        form = form if given is not None else _form_of(model, form)
        pieces = Tokenizer(model, form)
        sets = {"train": _pack_set(folder, "train", train_files, normal_form, pieces)}
        if valid is not None:
            valid_files = [(os.fspath(valid), places[os.fspath(valid)])]
            sets["valid"] = _pack_set(folder, "valid", valid_files, normal_form, pieces)
        write_sealed(
            folder / corpus.DATA,
            {
                "format": "asrprune-data",
                "version": corpus.FORMAT_VERSION,
                "vocab_size": pieces.vocab_size,
                "dtype": corpus.token_dtype(pieces.vocab_size),
                "form": form.to_dict(),
                "sentence_marks": [pieces.begin, pieces.end],
                **({"sentence_prompt": list(pieces.prompt)} if pieces.prompt else {}),
                "tokenizer_sha256": sha256(place),
                "tokenizer_config": asdict(config) if tokenizer is None else None,
                "sets": sets,
            },
        )
    return corpus.open_corpus(out)


def _form_of(pieces: PieceModel, form: TextForm) -> TextForm:
    """``form`` in the case of the pieces; the one that they state where the call says nothing."""
    if pieces.form is not None and form == TextForm():
        return pieces.form
    return replace(form, case=case_shown(pieces.alphabet))


@contextlib.contextmanager
def _spooled(names: Sequence[str], folder: Path) -> Iterator[dict[str, str]]:
    """Name -> file to read. Standard input is copied to disk, as it is read more than once."""
    if "-" not in names:
        yield {name: name for name in names}
        return
    spool = folder / ".stdin"
    with open_binary("-") as stream, open(spool, "wb") as copy:
        shutil.copyfileobj(stream, copy)
    yield {name: str(spool) if name == "-" else name for name in names}
    spool.unlink()


def _read(name: str, place: str, normal_form: Normaliser) -> Iterator[str]:
    """Normalised lines, "" for an empty one. Messages speak of ``name``, not of a spooled copy."""
    try:
        for _, line in read_lines(place):
            yield normal_form(line)
    except InputError as problem:
        raise InputError(name, problem.line, problem.found, problem.expected) from None


def _pack_set(
    folder: Path,
    set_name: str,
    files: Sequence[tuple[str, str]],
    normal_form: Normaliser,
    tokenizer: Tokenizer,
) -> dict[str, Any]:
    """Write the three files of one set; its counts, sources and checksums."""
    counts: Counter[str] = Counter()
    sources: list[dict[str, str]] = []
    dtype = corpus.token_dtype(tokenizer.vocab_size)
    sums = BlockSums(corpus.BLOCK_TOKENS * np.dtype(dtype).itemsize)
    with (
        open(folder / corpus.tokens_name(set_name), "wb") as tokens,
        open(folder / corpus.offsets_name(set_name), "wb") as offsets,
    ):
        offsets.write(np.zeros(1, corpus.OFFSET_DTYPE).tobytes())
        for name, place in files:
            digest = hashlib.sha256()
            lines = tracked(_read(name, place, normal_form), f"{set_name}: packed", "lines")
            for block in _blocks(lines, counts):
                if not counts["sentences"]:
                    _warn_of_unit(name, block, tokenizer.form.unit)
                digest.update("".join(f"{line}\n" for line in block).encode())
                sums.add(_append(block, tokenizer, dtype, tokens, offsets, counts))
            sources.append({"file": name, "normalised_sha256": digest.hexdigest()})
    if counts["sentences"] == 0:
        raise _no_sentence(files, set_name)
    if counts["empty_lines"]:
        log.info("%s: %d empty lines left out", set_name, counts["empty_lines"])
    keys = ("sentences", "words", "tokens", "oov_words", "empty_lines")
    stated = _write_sums(folder, set_name, sums.finish())
    return {**{key: counts[key] for key in keys}, "sources": sources, "crc32": stated}


def _write_sums(folder: Path, set_name: str, sums: NDArray[np.uint32]) -> dict[str, Any]:
    """Write the checksums of the ids; what ``data.json`` states of all checksums."""
    sums.tofile(folder / corpus.sums_name(set_name))
    offsets = np.memmap(folder / corpus.offsets_name(set_name), corpus.OFFSET_DTYPE, "r")
    return {
        "block_tokens": corpus.BLOCK_TOKENS,
        "offsets": crc32_of(offsets),
        "sums": crc32_of(sums),
    }


def _warn_of_unit(name: str, block: Sequence[str], unit: str) -> None:
    """Say so where words of a script without spaces are taken whole."""
    words = sum(len(line.split()) for line in block)
    unspaced = sum(unspaced_words(line)[0] for line in block)
    if unit == WORD and 2 * unspaced > words:
        log.warning(
            "%s: most words are of a script without spaces (Han, kana, Thai, ...) and are taken "
            "whole; --unit mixed or char lets segmented and unsegmented text score alike",
            name,
        )


def _no_sentence(files: Sequence[tuple[str, str]], set_name: str) -> InputError:
    return InputError(files[0][0], None, f"no sentence for the {set_name} set", "text")


def _blocks(lines: Iterator[str], counts: Counter[str]) -> Iterator[list[str]]:
    """Lists of lines that are not empty; empty ones are counted."""
    block: list[str] = []
    for line in lines:
        if not line:
            counts["empty_lines"] += 1
            continue
        block.append(line)
        if len(block) == _LINES_AT_ONCE:
            yield block
            block = []
    if block:
        yield block


def _append(
    block: list[str],
    tokenizer: Tokenizer,
    dtype: str,
    tokens: BinaryIO,
    offsets: BinaryIO,
    counts: Counter[str],
) -> bytes:
    """Write the sentences of ``block`` and count them; their ids as they were written."""
    encoded = tokenizer.encode_batch(block)
    lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
    ends = counts["tokens"] + np.cumsum(lengths)
    written = np.array([i for ids in encoded for i in ids], dtype=dtype).tobytes()
    tokens.write(written)
    offsets.write(ends.astype(corpus.OFFSET_DTYPE).tobytes())
    counts["tokens"] += int(lengths.sum())
    counts["sentences"] += len(block)
    counts["words"] += sum(len(line.split()) for line in block)
    counts["oov_words"] += sum(
        tokenizer.count_unknown(line)
        for line, ids in zip(block, encoded)
        if tokenizer.unknown in ids
    )
    return written
