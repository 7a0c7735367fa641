"""SentencePiece: words to token ids.

Our own models have the ids ``<unk>`` 0, ``<s>`` 1, ``</s>`` 2 and no padding id. Models of other
toolkits are taken with whatever ids they have, as long as a word's pieces do not depend on its
neighbours: hypotheses that share their first words then share their first tokens, and a sentence
has the same tokens as a list, as a lattice and alone.

Every character of the training text gets a piece of its own, unless ``character_coverage`` leaves
rare ones out, hence words never seen are spelled with pieces and only characters never seen become
``<unk>``. Bytes as a last resort are not used: an LM that never saw a byte piece would give such a
word an arbitrary score that looks regular; as ``<unk>`` it is scored with the unknown token's
probability and counted as OOV.
"""

from __future__ import annotations

import functools
import io
import logging
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from asrprune.core.special_words import kind_of
from asrprune.core.tables import lookup
from asrprune.core.units import UNITS, WORD
from asrprune.errors import InputError
from asrprune.files import PathLike, sha256

UNK, BOS, EOS = 0, 1, 2
"""Ids of ``<unk>``, ``<s>`` and ``</s>`` in models that are trained here."""

MODEL_TYPES = ("unigram", "bpe")
WORD_PIECES = 2000
"""Pieces of a vocabulary whose size is not given."""

_FEW = 0.98  # the least that the trainer takes; characters that are required go before it
_SPECIAL_PIECES = 3
_END_PIECES = ("</s>", "<sos/eos>", "<eos>", "<|endoftext|>")
_BEGIN_PIECES = ("<s>", "<sos/eos>", "<sos>", "<bos>")
_BLANKS = ("<blk>", "<blank>", "<pad>", "<mask>")
_WORD_MARK = "\u2581"

log = logging.getLogger(__name__)
_TRAINING_THREADS = 4  # a constant: the result depends on it
_LONGEST_LINE_BYTES = 1 << 16


@dataclass(frozen=True)
class TokenizerConfig:
    """``vocab_size`` is raised, with a warning, to what the characters of the text need; None:
    WORD_PIECES, and as many more as a large alphabet needs, or as many as the text can fill.
    ``unit``, one of UNITS, is that of the LM's text form: characters that are units get one piece
    each. ``character_coverage``: the share of all characters that get pieces, the rarest are left
    out. ``sample_sentences`` bounds the memory: that many sentences are drawn from the text."""

    vocab_size: Optional[int] = None
    model_type: str = "unigram"
    sample_sentences: int = 1_000_000
    seed: int = 1
    unit: str = WORD
    character_coverage: float = 1.0

    def __post_init__(self) -> None:
        if self.vocab_size is not None and not 4 <= self.vocab_size < 2**31:
            raise ValueError(f"vocab_size is {self.vocab_size}; expected 4 or more")
        if self.model_type not in MODEL_TYPES:
            raise ValueError(f"model_type {self.model_type!r}; known: {', '.join(MODEL_TYPES)}")
        if self.sample_sentences < 1:
            raise ValueError(f"sample_sentences is {self.sample_sentences}; expected 1 or more")
        lookup(UNITS, self.unit, "unit")
        if not _FEW <= self.character_coverage <= 1.0:
            found = f"character_coverage is {self.character_coverage}"
            raise ValueError(f"{found}; expected a share from {_FEW} to 1")


class SentencePieceModel:
    """A trained SentencePiece model. Can be pickled (it takes its bytes along).

    ``begin``, ``end`` and ``unknown`` are the ids of its own sentence marks and unknown piece; one
    piece ``<sos/eos>`` may be both marks, as in icefall. ``first_differs``: the first word of a
    sentence is spelled in another way than the others (a model without dummy prefix).

    Raises InputError for a file that is not a SentencePiece model, lacks a sentence mark, or whose
    pieces of a word depend on the words beside it.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(self.path, None, "no such file", "a SentencePiece model")
        self.sha256 = sha256(self.path)
        self._load(self.path.read_bytes())
        self._check_words()

    def _load(self, proto: bytes) -> None:
        self._proto = proto
        self._pieces = _sentencepiece().SentencePieceProcessor()
        try:
            self._pieces.load_from_serialized_proto(proto)
        except RuntimeError:
            found = "not a SentencePiece model"
            raise InputError(self.path, None, found, "a SentencePiece model") from None
        for index in range(self.vocab_size):
            try:
                self._pieces.id_to_piece(index)
            except UnicodeDecodeError:
                found = f"piece {index} is no UTF-8"
                raise InputError(self.path, None, found, "a SentencePiece model") from None
        self.unknown = int(self._pieces.unk_id())
        self.end = self._mark(self._pieces.eos_id(), _END_PIECES)
        self.begin = self._mark(self._pieces.bos_id(), _BEGIN_PIECES, self.end)
        # what a word in the middle of a sentence starts with
        self._before = next((c for c in sorted(self.alphabet) if c.isalnum()), "a")
        self._before_ids = len(self._pieces.encode(self._before))
        shown = self._pieces.encode(f"{self._before} {self._before}", out_type=str)
        self._shape = "".join(shown).replace(self._before, "x")
        self.first_differs = self._shape == "x\u2581x"

    def _mark(self, own: int, names: Sequence[str], otherwise: Optional[int] = None) -> int:
        """The id of a sentence mark: the model's own, else a piece with one of the names."""
        if own >= 0:
            return int(own)
        for name in names:
            index = int(self._pieces.piece_to_id(name))
            if self._pieces.id_to_piece(index) == name:
                return index
        if otherwise is not None:
            return otherwise
        found = "no piece for the end of a sentence"
        expected = f"an eos_id, or one of the pieces {', '.join(names)} (user_defined_symbols)"
        raise InputError(self.path, None, found, expected)

    def _check_words(self) -> None:
        expected = "a model whose pieces stay inside words (split_by_whitespace) with \u2581 before"
        crossing = [
            piece for piece in self._normal_pieces() if _WORD_MARK in piece.strip(_WORD_MARK)
        ]
        if crossing:
            found = (
                f"pieces that cross word boundaries ({crossing[0]!r} and {len(crossing) - 1} more)"
            )
            raise InputError(self.path, None, found, expected)
        if self._shape not in ("\u2581x\u2581x", "x\u2581x", "x\u2581x\u2581"):
            found = f"{f'{self._before} {self._before}'!r} spelled as {self._shape!r}"
            raise InputError(self.path, None, found, expected)
        words = [piece.strip(_WORD_MARK) for piece in self._normal_pieces()]
        words = [word for word in words if word.isalpha()][:: max(1, len(words) // 30)]
        parts = self.encode_words(words[:1], first=True) + self.encode_words(words[1:], first=False)
        if list(self._pieces.encode(" ".join(words))) != [i for ids in parts for i in ids]:
            found = "pieces of a word that depend on the words beside it"
            raise InputError(self.path, None, found, expected)

    def _normal_pieces(self) -> list[str]:
        """All pieces but marks, bytes and those the model does not use, in order."""
        p = self._pieces
        return [
            p.id_to_piece(i)
            for i in range(self.vocab_size)
            if not (p.is_control(i) or p.is_unknown(i) or p.is_unused(i) or p.is_byte(i))
        ]

    @property
    def proto(self) -> bytes:
        """The bytes of the file."""
        return self._proto

    @property
    def form(self) -> None:
        """Nothing is stated; the alphabet shows the case."""

    @property
    def prompt(self) -> tuple[int, ...]:
        """None: text starts with the begin mark."""
        return ()

    @property
    def tail(self) -> tuple[int, ...]:
        """None: the end mark follows the last word."""
        return ()

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""
        return int(self._pieces.get_piece_size())

    @functools.cached_property
    def alphabet(self) -> frozenset[str]:
        """The characters of all pieces, tags (``<blk>``) apart."""
        plain = (piece for piece in self._normal_pieces() if kind_of(piece) is None)
        return frozenset("".join(plain)) - {_WORD_MARK}

    def encode_words(self, words: Sequence[str], first: bool) -> list[list[int]]:
        """Ids of each word, in order; ``first``: as that of a sentence's first word."""
        if first or not self.first_differs:
            return [list(ids) for ids in self._pieces.encode(list(words))] if words else []
        before = f"{self._before} "
        texts = [before + word for word in words]
        return (
            [list(ids)[self._before_ids :] for ids in self._pieces.encode(texts)] if texts else []
        )

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids."""
        return str(self._pieces.decode(list(ids)))

    def piece(self, index: int) -> str:
        """The piece with this id; a word-initial one starts with U+2581."""
        return str(self._pieces.id_to_piece(index))

    def is_byte(self, index: int) -> bool:
        """Whether the id stands for a byte of a character without a piece."""
        return bool(self._pieces.is_byte(index))

    def has_piece(self, word: str) -> bool:
        """Whether the whole word is one piece, sentence marks apart."""
        for name in (_WORD_MARK + word, word):
            index = int(self._pieces.piece_to_id(name))
            if self._pieces.id_to_piece(index) == name:
                return index not in (self.begin, self.end, self.unknown) and word not in _BLANKS
        return False

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "sha256": self.sha256, "proto": self._proto}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self.sha256 = state["sha256"]
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
        self.characters: Counter[str] = Counter()

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
    normalisation is off. Raises ValueError for no words or a vocabulary size that the text cannot
    fill.
    """
    sample = SentenceSample(config.sample_sentences, config.seed)
    for sentence in sentences:
        sample.add(sentence)
    if not sample.sentences:
        raise ValueError("no sentence to train a tokenizer on; expected at least one")
    characters = _covered(sample.characters, config.character_coverage)
    if not characters:
        raise ValueError("no sentence with a word to train a tokenizer on; expected at least one")
    units = [one for one in characters if _is_unit(one, config.unit)]
    letters = sorted(set(characters).difference(units))
    boundary = 1  # it is a piece as well, where words are spelled
    texts = sample.sentences
    if not letters:  # the trainer wants to learn a piece: it gets one that no text in units has
        letters, boundary = units[-1:], 0
        texts = [*texts, 2 * units[-1]]
    needed = _SPECIAL_PIECES + len(units) + len(letters) + boundary
    if config.vocab_size is not None and config.vocab_size < needed:
        log.warning(
            "vocab_size is %d, but the text has %d different characters: %d pieces are made "
            "(character_coverage leaves rare ones out)",
            config.vocab_size,
            len(characters),
            needed,
        )
    size = max(needed, config.vocab_size or max(WORD_PIECES, needed + WORD_PIECES // 2))
    if len(letters) == 1 and units and config.vocab_size is None:
        size = needed
    try:
        return _train(texts, config, size, sorted(units), letters)
    except RuntimeError as problem:
        limit = _largest_vocabulary(str(problem))
        if limit is not None and config.vocab_size is None:
            return _train(texts, config, max(limit, needed), sorted(units), letters)
        advice = "fewer" if limit is None else f"at most {limit}"
        raise ValueError(
            f"vocab_size {size} is more than this text can fill; expected {advice}"
        ) from problem


def _train(
    sentences: Sequence[str],
    config: TokenizerConfig,
    vocab_size: int,
    units: Sequence[str],
    letters: Sequence[str],
) -> bytes:
    """``units`` are characters with one piece each, ``letters`` those that pieces are made of."""
    model = io.BytesIO()
    _sentencepiece().SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=vocab_size,
        model_type=config.model_type,
        character_coverage=1.0 if config.character_coverage == 1.0 else _FEW,
        required_chars="".join(letters),
        user_defined_symbols=[_WORD_MARK + unit for unit in units],
        normalization_rule_name="identity",
        unk_id=UNK,
        bos_id=BOS,
        eos_id=EOS,
        pad_id=-1,
        max_sentence_length=_LONGEST_LINE_BYTES,
        num_threads=_TRAINING_THREADS,
        minloglevel=2,
    )
    return model.getvalue()


def _covered(counts: Counter[str], coverage: float) -> list[str]:
    """The most frequent characters that make up ``coverage`` of all, most frequent first."""
    ordered = sorted(counts.keys() - {" "}, key=lambda one: (-counts[one], one))
    if coverage == 1.0:
        return ordered
    enough = coverage * sum(counts[one] for one in ordered)
    kept: list[str] = []
    total = 0
    for one in ordered:
        if total >= enough:
            break
        kept.append(one)
        total += counts[one]
    return kept


def _is_unit(character: str, unit: str) -> bool:
    return unit != WORD and len(UNITS[unit](f"a{character}a")) == 3


def _largest_vocabulary(message: str) -> Optional[int]:
    """The limit that SentencePiece names when the vocabulary is too large, if it names one."""
    _, found, rest = message.partition("value <= ")
    digits = rest.split(".")[0]
    return int(digits) if found and digits.isdigit() else None


def _sentencepiece() -> Any:
    import sentencepiece  # here, so that the package imports fast

    return sentencepiece
