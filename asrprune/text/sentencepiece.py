"""SentencePiece: text to token ids.

Ids: ``<unk>`` 0, ``<s>`` 1, ``</s>`` 2, no padding id. Pieces never cross a word boundary, so that
hypotheses that share their first words share their first tokens.

Every character of the training text gets a piece of its own, hence words never seen are spelled
with pieces and only characters never seen become ``<unk>``. Bytes as a last resort are not used:
an LM that never saw a byte piece would give such a word an arbitrary score that looks regular; as
``<unk>`` it is scored with the unknown token's probability and counted as OOV.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from asrprune.errors import InputError
from asrprune.files import PathLike, sha256

UNK, BOS, EOS = 0, 1, 2
"""Ids of ``<unk>``, ``<s>`` and ``</s>``."""

MODEL_TYPES = ("unigram", "bpe")
_SPECIAL_PIECES = ((UNK, "<unk>"), (BOS, "<s>"), (EOS, "</s>"))
_TRAINING_THREADS = 4  # a constant: the result depends on it
_MANY_TEXTS = 256
_LONGEST_LINE_BYTES = 1 << 16


@dataclass(frozen=True)
class TokenizerConfig:
    """``sample_sentences`` bounds the memory: that many sentences are drawn from the text."""

    vocab_size: int = 2000
    model_type: str = "unigram"
    sample_sentences: int = 1_000_000
    seed: int = 1

    def __post_init__(self) -> None:
        if not 4 <= self.vocab_size < 2**31:
            raise ValueError(f"vocab_size is {self.vocab_size}; expected 4 or more")
        if self.model_type not in MODEL_TYPES:
            raise ValueError(f"model_type {self.model_type!r}; known: {', '.join(MODEL_TYPES)}")
        if self.sample_sentences < 1:
            raise ValueError(f"sample_sentences is {self.sample_sentences}; expected 1 or more")


class SentencePieceTokenizer:
    """A trained SentencePiece model. Can be pickled (it takes its bytes along).

    Raises InputError for a file that is not a SentencePiece model or has other special ids.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(self.path, None, "no such file", "a SentencePiece model")
        self.sha256 = sha256(self.path)
        self._load(self.path.read_bytes())
        self.begin, self.end, self.unknown = BOS, EOS, UNK
        for index, piece in _SPECIAL_PIECES:
            if self.vocab_size <= index or self._pieces.id_to_piece(index) != piece:
                found = f"id {index} is not {piece}"
                raise InputError(self.path, None, found, "ids <unk> 0, <s> 1, </s> 2")

    def _load(self, proto: bytes) -> None:
        self._proto = proto
        self._pieces = _sentencepiece().SentencePieceProcessor()
        try:
            self._pieces.load_from_serialized_proto(proto)
        except RuntimeError:
            found = "not a SentencePiece model"
            raise InputError(self.path, None, found, "a SentencePiece model") from None

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""
        return int(self._pieces.get_piece_size())

    def encode(self, text: str) -> list[int]:
        """Ids of a sentence without ``<s>`` and ``</s>``; [] for the empty sentence.

        The text must be normalised as the training text was.
        """
        return list(self._pieces.encode(text, out_type=int))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each sentence, in order."""
        if len(texts) < _MANY_TEXTS:  # SentencePiece starts threads, which takes milliseconds
            return [self.encode(text) for text in texts]
        return [list(ids) for ids in self._pieces.encode(list(texts), out_type=int)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids."""
        return str(self._pieces.decode(list(ids)))

    def piece(self, index: int) -> str:
        """The piece with this id; a word-initial one starts with U+2581."""
        return str(self._pieces.id_to_piece(index))

    def count_unknown(self, text: str) -> int:
        """Number of words with a character that the training text never had (OOV words)."""
        if UNK not in self.encode(text):
            return 0
        return sum(UNK in self.encode(word) for word in text.split())

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "sha256": self.sha256, "proto": self._proto}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self.sha256 = state["sha256"]
        self.begin, self.end, self.unknown = BOS, EOS, UNK
        self._load(state["proto"])


class SentenceSample:
    """A uniform sample of a stream of sentences, of bounded size, and the characters of them all.

    Source: Vitter's reservoir sampling, algorithm R (1985).
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._random = random.Random(seed)
        self._seen = 0
        self.sentences: list[str] = []
        self.characters: set[str] = set()

    def add(self, sentence: str) -> None:
        """Offer one sentence to the sample."""
        self.characters.update(sentence)
        self._seen += 1
        if len(self.sentences) < self._size:
            self.sentences.append(sentence)
        else:
            place = self._random.randrange(self._seen)
            if place < self._size:
                self.sentences[place] = sentence


def train_tokenizer(sentences: Iterable[str], config: TokenizerConfig) -> bytes:
    """A SentencePiece model (as the bytes of its file) trained on normalised sentences.

    Streams ``sentences`` once; same sentences and config give the same bytes. SentencePiece's own
    normalisation is off. Raises ValueError for no sentences or a vocabulary size that the text
    cannot fill.
    """
    sample = SentenceSample(config.sample_sentences, config.seed)
    for sentence in sentences:
        sample.add(sentence)
    if not sample.sentences:
        raise ValueError("no sentence to train a tokenizer on; expected at least one")
    characters = sorted(sample.characters - {" "})
    needed = len(characters) + len(_SPECIAL_PIECES) + 1  # the word boundary is a piece as well
    if config.vocab_size < needed:
        raise ValueError(
            f"vocab_size is {config.vocab_size}, but the text has {len(characters)} different "
            f"characters; expected {needed} or more"
        )
    model = io.BytesIO()
    try:
        _sentencepiece().SentencePieceTrainer.train(
            sentence_iterator=iter(sample.sentences),
            model_writer=model,
            vocab_size=config.vocab_size,
            model_type=config.model_type,
            character_coverage=1.0,
            required_chars="".join(characters),
            normalization_rule_name="identity",
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            pad_id=-1,
            max_sentence_length=_LONGEST_LINE_BYTES,
            num_threads=_TRAINING_THREADS,
            minloglevel=2,
        )
    except RuntimeError as problem:
        limit = _largest_vocabulary(str(problem))
        advice = "fewer" if limit is None else f"at most {limit}"
        raise ValueError(
            f"vocab_size {config.vocab_size} is more than this text can fill; expected {advice}"
        ) from problem
    return model.getvalue()


def _largest_vocabulary(message: str) -> Optional[int]:
    """The limit that SentencePiece names when the vocabulary is too large, if it names one."""
    _, found, rest = message.partition("value <= ")
    digits = rest.split(".")[0]
    return int(digits) if found and digits.isdigit() else None


def _sentencepiece() -> Any:
    import sentencepiece  # here, so that the package imports fast

    return sentencepiece
