"""A corpus as a memory-mapped token stream: written once, read at any place without loading it.

The folder holds the tokeniser, ``data.json`` and, for each of the sets ``train`` and
``valid``, ``SET.tokens.bin`` (all sentences' ids end to end, without ``<s>`` and ``</s>``; uint16,
or uint32 for a vocabulary above 65536), ``SET.offsets.bin`` (int64, sentences + 1 numbers: where
each sentence starts, and the end) and ``SET.sums.bin`` (uint32: the CRC-32 of each block of
BLOCK_TOKENS ids). Little-endian.

What is read is checked. Offsets are read whole when a set is opened, and with them their CRC-32,
which stands in ``data.json`` (3 GB/s: a tenth of a second for 40 million sentences). Ids may be too
many for that: a block is checked when a sentence in it is first asked for, 5 microseconds each, so
that training starts at once on any corpus. Folders of earlier versions have no sums and are read
without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.checksums import BlockChecksums, crc32_of
from asrprune.core.record import (
    Record,
    a,
    a_count,
    a_list_of,
    a_string,
    an_object,
    one_of,
    read_record,
)
from asrprune.errors import InputError
from asrprune.files import PathLike, sha256
from asrprune.text.form import TextForm
from asrprune.text.normalise import NORMALISERS
from asrprune.text.sentencepiece import BOS, EOS
from asrprune.text.tokenizer import tokenizer_in

FORMAT_VERSION = 1
DATA = "data.json"
OFFSET_DTYPE, SUM_DTYPE = "<i8", "<u4"
BLOCK_TOKENS = 8192
"""Ids that have a checksum together: about what the system reads from disk at once."""


def token_dtype(vocab_size: int) -> str:
    """The smallest of the stored types that holds every id, as numpy spells it."""
    return "<u2" if vocab_size <= 1 << 16 else "<u4"


def tokens_name(set_name: str) -> str:
    """File name of a set's ids."""
    return f"{set_name}.tokens.bin"


def offsets_name(set_name: str) -> str:
    """File name of a set's sentence starts."""
    return f"{set_name}.offsets.bin"


def sums_name(set_name: str) -> str:
    """File name of the checksums of a set's ids."""
    return f"{set_name}.sums.bin"


@dataclass(frozen=True)
class TokenStream:
    """Sentences as ids, without ``<s>`` and ``</s>``; the arrays may be memory-mapped.

    ``tokens`` [n_tokens] unsigned integers, ``offsets`` [n_sentences + 1] int64, rising from 0;
    ``begin`` and ``end`` are the ids of ``<s>`` and ``</s>``; ``prompt`` are ids that stand behind
    ``begin`` in every sentence and are not predicted. ``checksums`` are those of ``tokens``, None
    where there are none.
    """

    tokens: NDArray[Any]
    offsets: NDArray[np.int64]
    begin: int = BOS
    end: int = EOS
    checksums: Optional[BlockChecksums] = None
    prompt: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        last = int(self.offsets[-1]) if len(self.offsets) else -1
        if last != len(self.tokens) or int(self.offsets[0]) != 0:
            raise ValueError(f"offsets end at {last} for {len(self.tokens)} tokens")

    @classmethod
    def from_sentences(
        cls,
        sentences: Iterable[Sequence[int]],
        begin: int = BOS,
        end: int = EOS,
        prompt: tuple[int, ...] = (),
    ) -> TokenStream:
        """A stream in memory.

        >>> TokenStream.from_sentences([[5, 6], [], [7]]).lengths.tolist()
        [2, 0, 1]
        """
        arrays = [np.asarray(sentence, dtype=np.uint32) for sentence in sentences]
        tokens = np.concatenate([np.zeros(0, np.uint32), *arrays])
        ends = np.cumsum([0, *map(len, arrays)], dtype=np.int64)
        return cls(tokens, ends, begin, end, prompt=prompt)

    @property
    def n_sentences(self) -> int:
        """Number of sentences."""
        return len(self.offsets) - 1

    @property
    def n_tokens(self) -> int:
        """Number of ids; ``</s>`` is not among them."""
        return len(self.tokens)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Ids in each sentence, [n_sentences]."""
        return np.diff(self.offsets).astype(np.int32)

    def sentence(self, index: int) -> NDArray[Any]:
        """The ids of sentence ``index``, counted from 0.

        Raises InputError when they are no longer what was written.
        """
        start, stop = self.offsets[index], self.offsets[index + 1]
        if self.checksums is not None:
            self.checksums.check(int(start), int(stop))
        return self.tokens[start:stop]


@dataclass(frozen=True)
class Corpus:
    """What a folder of ``asrprune tokenize`` holds; sets are opened by ``stream``."""

    path: Path
    data: Mapping[str, Any]

    @property
    def tokenizer_path(self) -> Path:
        """The tokeniser's file."""
        return tokenizer_in(self.path)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return int(self.data["vocab_size"])

    @property
    def form(self) -> TextForm:
        """The form that the text went through."""
        older = {"normaliser": self.data.get("normaliser") or "none"}  # before it was stated
        return TextForm.from_dict(self.data.get("form") or older)

    @property
    def digest(self) -> str:
        """A hash of what the folder states about tokeniser and text: equal only for equal data."""
        return sha256(self.path / DATA)

    def has(self, set_name: str) -> bool:
        """Whether the folder holds this set (``train`` or ``valid``)."""
        return set_name in self.data["sets"]

    def stream(self, set_name: str) -> TokenStream:
        """The set's sentences, memory-mapped.

        Raises InputError for a set that is not there, and for files whose size or checksum differs
        from what ``data.json`` states; in a folder without checksums for offsets that do not rise
        and ids beyond the vocabulary.
        """
        if not self.has(set_name):
            known = ", ".join(self.data["sets"])
            raise InputError(self.path / DATA, None, f"no set {set_name!r}", f"one of {known}")
        counts = self.data["sets"][set_name]
        place, starts = self.path / tokens_name(set_name), self.path / offsets_name(set_name)
        tokens = _mapped(place, self.data["dtype"], counts["tokens"])
        offsets = _mapped(starts, OFFSET_DTYPE, counts["sentences"] + 1)
        if int(offsets[0]) != 0 or int(offsets[-1]) != len(tokens):
            found = f"sentences from {offsets[0]} to {offsets[-1]}"
            raise InputError(starts, None, found, f"from 0 to {len(tokens)}")
        begin, end = self.data.get("sentence_marks") or (BOS, EOS)
        checksums = self._checksums(set_name, tokens, offsets)
        if checksums is None:
            _check_rising(starts)
            _check_below(place, self.data["dtype"], self.vocab_size)
        prompt = tuple(self.data.get("sentence_prompt") or ())
        return TokenStream(tokens, offsets, begin, end, checksums, prompt)

    def _checksums(
        self, set_name: str, tokens: NDArray[Any], offsets: NDArray[np.int64]
    ) -> Optional[BlockChecksums]:
        """Those of the ids; the offsets are checked. None in a folder of an earlier version."""
        stated = self.data["sets"][set_name].get("crc32")
        if stated is None:
            return None
        try:
            size = max(1, int(stated["block_tokens"]))
            expected = {name: str(stated[name]) for name in ("offsets", "sums")}
        except (KeyError, TypeError, ValueError):
            raise InputError(self.path / DATA, None, f"crc32 {stated!r}", "checksums") from None
        starts, path = self.path / offsets_name(set_name), self.path / sums_name(set_name)
        sums = _mapped(path, SUM_DTYPE, -(-len(tokens) // size))
        _check(starts, offsets, expected["offsets"])
        _check(path, sums, expected["sums"])
        return BlockChecksums(self.path / tokens_name(set_name), tokens, sums, size)


def open_corpus(path: PathLike) -> Corpus:
    """The corpus in folder ``path``.

    Raises InputError for a folder that ``asrprune tokenize`` did not write, or whose tokeniser
    was replaced.
    """
    folder = Path(path)
    if not (folder / DATA).is_file():
        found = f"no {DATA}" if folder.is_dir() else "no such folder"
        raise InputError(folder, None, found, "a folder written by `asrprune tokenize`")
    data = read_record(folder / DATA).check_format("asrprune-data", FORMAT_VERSION, "a corpus")
    stated = _check_types(data)
    tokenizer = tokenizer_in(folder)
    digest = sha256(tokenizer) if tokenizer.is_file() else "no file"
    if digest != stated:
        raise InputError(
            tokenizer, None, f"tokenizer hash {digest[:12]}", f"{stated[:12]}, as in {DATA}"
        )
    return Corpus(folder, data.values)


def _check_types(data: Record) -> str:
    """Raise InputError for a key of another type or size; returns the tokeniser's hash."""
    size = data.get("vocab_size", a_count)
    dtype = data.get("dtype", one_of("<u2", "<u4"))
    if dtype != token_dtype(size):
        raise InputError(data.path, None, f"dtype {dtype}", f"{token_dtype(size)} for {size} ids")
    marks = data.find("sentence_marks", a_list_of(a_count)) or (BOS, EOS)
    if len(marks) != 2 or max(marks) >= size:
        found = f"sentence_marks is {list(marks)}"
        raise InputError(data.path, None, found, f"two ids below vocab_size {size}")
    prompt = data.find("sentence_prompt", a_list_of(a_count)) or ()
    if max(prompt, default=0) >= size:
        found = f"sentence_prompt is {list(prompt)}"
        raise InputError(data.path, None, found, f"ids below vocab_size {size}")
    data.get("sets", an_object)
    sets = data.part("sets")
    for name in sets.values:
        counts = sets.part(name)
        for key in ("tokens", "sentences"):
            counts.get(key, a_count)
        counts.find("words", a_count)
    data.find("form", a(TextForm))
    data.find("normaliser", one_of(*NORMALISERS))
    return data.get("tokenizer_sha256", a_string)


def _check_rising(path: Path) -> None:
    before = 0
    for block in _blocks(path, OFFSET_DTYPE):
        if int(block[0]) < before or (np.diff(block) < 0).any():
            raise InputError(path, None, "sentences that run backwards", "offsets that rise")
        before = int(block[-1])


def _check_below(path: Path, dtype: str, size: int) -> None:
    for block in _blocks(path, dtype):
        if (largest := int(block.max())) >= size:
            raise InputError(path, None, f"the id {largest}", f"ids below vocab_size {size}")


def _blocks(path: Path, dtype: str) -> Iterator[NDArray[Any]]:
    """The numbers of a file in blocks, read and not mapped: what is mapped stays in memory."""
    with open(path, "rb") as stream:
        while len(block := np.fromfile(stream, dtype, 1 << 20)):
            yield block


def _check(path: Path, numbers: NDArray[Any], expected: str) -> None:
    found = crc32_of(numbers)
    if found != expected:
        raise InputError(path, None, f"checksum {found}", f"{expected}, as in {DATA}")


def _mapped(path: Path, dtype: str, count: int) -> NDArray[Any]:
    expected = count * np.dtype(dtype).itemsize
    size = path.stat().st_size if path.is_file() else -1
    if size != expected:
        found = "no such file" if size < 0 else f"{size} bytes"
        raise InputError(path, None, found, f"{expected} bytes ({count} numbers)")
    if count == 0:  # an empty file cannot be mapped
        return np.zeros(0, dtype)
    mapped = np.memmap(path, dtype=dtype, mode="r", shape=(count,))
    return np.asarray(mapped)  # a memmap is slow to index
