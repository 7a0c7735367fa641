"""N-gram models through KenLM, behind the same protocol as the Transformer."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.errors import InputError, MissingPackage
from asrprune.files import PathLike, open_binary, passing_folder
from asrprune.lm.kenlm_file import check_ngram_file
from asrprune.lm.protocol import (
    SENTENCE_END,
    Runtime,
    ScoringStats,
    Words,
    checked_sentences,
    checked_words,
)
from asrprune.lm.vocabulary import shown_form, vocabulary
from asrprune.text.coverage import Coverage, Spelling
from asrprune.text.form import UNKNOWN_WORD, Speller, TextOptions

LN_10 = math.log(10.0)
"""ARPA files and KenLM speak log10; one multiplication turns it into the natural log."""

_MISSING_UNK_LOG10 = -100.0  # what KenLM puts in for a file without <unk>
_NEVER_A_WORD = "\x01"
MOST_TIMES = 100
"""An ARPA file is packed by 3 to 10; a ``.gz`` that unpacks to so many times its size is none."""


class NgramLM:
    """An ``.arpa``, ``.arpa.gz`` or KenLM binary file as a LanguageModel.

    Words go through the text form first: that of ``text``, else the case of letters, and the unit
    (single Han characters), that the model's vocabulary shows. A word that the model does not know
    is scored as ``<unk>``. For a file without ``<unk>`` that
    would be -inf; KenLM's substitute is 10^-100 (-230.26 nats), so that such sentences still have
    an order. ``oov_log_prob`` (natural log) replaces that substitute; it is refused for a file
    that has its own ``<unk>``.

    Raises InputError for a file that KenLM cannot read, MissingPackage without KenLM.
    """

    def __init__(
        self,
        path: PathLike,
        oov_log_prob: Optional[float] = None,
        text: Optional[TextOptions] = None,
    ) -> None:
        self.path = os.fspath(path)
        if not os.path.isfile(self.path):
            raise InputError(self.path, None, "no such file", "an n-gram model")
        self._model = _load(self.path)
        unknown = next(iter(self._model.full_scores(_NEVER_A_WORD, bos=False, eos=False)))
        self.has_unknown = unknown[0] > _MISSING_UNK_LOG10 + 1e-3
        if oov_log_prob is not None and self.has_unknown:
            raise ValueError(f"oov_log_prob is {oov_log_prob}, but {self.path} has its own <unk>")
        self._oov_log_prob = oov_log_prob
        text = text or TextOptions()
        self.form = text.form(shown_form(vocabulary(self.path)))
        self._spell = Speller(self.form, text.special, self.knows)
        self.stats = ScoringStats()

    @property
    def runtime(self) -> Runtime:
        """KenLM has no choice of engine."""
        return Runtime()

    @property
    def name(self) -> str:
        """The file's name and the order of the model."""
        return f"{os.path.basename(self.path)} ({self.order}-gram)"

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return int(self._model.order)

    def word_log_probs(self, sentence: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """ln P of every word of the LM and of ``</s>``, and which of them are OOV: two arrays
        [words of ``line(sentence)`` + 1]."""
        scores = list(self._model.full_scores(self.line(sentence)))
        log_probs = np.array([score[0] for score in scores], dtype=np.float64) * LN_10
        if not log_probs.max() < math.inf:  # nor NaN
            raise self._damaged(sentence)
        oov = np.array([score[2] for score in scores], dtype=bool)
        if self._oov_log_prob is not None:
            log_probs[oov] = self._oov_log_prob
        return log_probs, oov

    @property
    def spelling(self) -> Spelling:
        """What tells which words the model knows: itself."""
        return self

    def line(self, text: str) -> str:
        """A line of text as the model sees it: words in the LM's form, ``<unk>`` for unknowns."""
        return self._spell.line(text)

    def knows(self, word: str) -> bool:
        """Whether the word as it stands is in the vocabulary."""
        return word in self._model

    def coverage(self, words: Mapping[str, int]) -> Coverage:
        """How much of the words (word -> how often) the model knows."""
        found = Coverage()
        for word, count in words.items():
            spelled = self._spell(word)
            found += Coverage.of(
                word,
                count,
                dropped=not spelled,
                special=None in spelled,
                unknown=any(part is not None and not self.knows(part) for part in spelled),
            )
        return found

    def word_scores(self, words: Words) -> NDArray[np.float64]:
        """ln P of each word as it came and of ``</s>``, [words + 1]; 0 for one that the LM does not
        see."""
        values, _ = self.word_log_probs(" ".join(words))
        lengths = [len(self._spell(word)) for word in words]
        if all(length == 1 for length in lengths):
            return values
        ends = np.cumsum([0, *lengths])
        sums = [values[low:high].sum() for low, high in zip(ends[:-1], ends[1:])]
        return np.array([*sums, values[-1]])

    def begin(self) -> Any:
        """KenLM's state behind ``<s>``."""
        state = _kenlm().State()
        self._model.BeginSentenceWrite(state)
        return state

    def step(self, state: Any, word: str) -> tuple[float, Any]:
        """ln P(word | state), where the word may be ``</s>``, and the state behind it."""
        total = 0.0
        for part in (word,) if word == SENTENCE_END else self._spell(word):
            after = _kenlm().State()
            score = self._model.BaseFullScore(state, UNKNOWN_WORD if part is None else part, after)
            if score.oov and self._oov_log_prob is not None:
                total += self._oov_log_prob
            else:
                total += float(score.log_prob) * LN_10
            state = after
        if not total < math.inf:
            raise self._damaged(word)
        return total, state

    def _damaged(self, text: str) -> InputError:
        found = f"no probability of {text[:60]!r}"
        return InputError(self.path, None, found, "a model whose probabilities are numbers")

    def score_lists(self, lists: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
        """ln P(sentence, </s> | <s>) of every sentence: one float64 array per list, in order."""
        lists = checked_sentences(lists)
        start = time.perf_counter()
        scores = [
            np.array([self.word_log_probs(sentence)[0].sum() for sentence in sentences], np.float64)
            for sentences in lists
        ]
        sentences = sum(map(len, lists))
        tokens = sum(len(sentence.split()) for one in lists for sentence in one) + sentences
        wall_s = time.perf_counter() - start
        self.stats += ScoringStats(sentences, tokens, tokens, tokens, 0, wall_s)
        return scores

    def words(self) -> NgramWordScorer:
        """The same model, asked for the score of every word."""
        return NgramWordScorer(self)

    def prefixes(self) -> NgramPrefixes:
        """The same model, asked word by word in a search."""
        return NgramPrefixes(self)


class NgramWordScorer:
    """An n-gram model, asked word by word."""

    def __init__(self, lm: NgramLM) -> None:
        self._lm = lm
        self.spelling: Spelling = lm
        self.tokens = 0

    @property
    def name(self) -> str:
        return self._lm.name

    def score_words(self, lists: Sequence[Sequence[Words]]) -> list[list[NDArray[np.float64]]]:
        """As WordScorer says; ``tokens`` counts no shared prefixes, since nothing is shared."""
        lists = checked_words(lists)
        self.tokens += sum(len(hyp) + 1 for hyps in lists for hyp in hyps)
        return [[self._lm.word_scores(hyp) for hyp in hyps] for hyps in lists]


class NgramPrefixes:
    """A PrefixLM of an n-gram model: KenLM's states."""

    def __init__(self, lm: NgramLM) -> None:
        self._lm = lm
        self.spelling: Spelling = lm
        self._states: dict[int, Any] = {}
        self._made = 0
        self.tokens = 0

    @property
    def name(self) -> str:
        return self._lm.name

    def root(self, group: int) -> int:
        return self._add(self._lm.begin())

    def child(self, prefix: int, word: str) -> int:
        return self._add(self._lm.step(self._states[prefix], word)[1])

    def score(self, pairs: Sequence[tuple[int, str]]) -> NDArray[np.float64]:
        self.tokens += len(pairs)
        return np.array([self._lm.step(self._states[prefix], word)[0] for prefix, word in pairs])

    def keep(self, prefixes: Iterable[int]) -> None:
        self._states = {prefix: self._states[prefix] for prefix in set(prefixes)}

    def _add(self, state: Any) -> int:
        self._made += 1
        self._states[self._made] = state
        return self._made


def _kenlm() -> Any:
    try:
        import kenlm
    except ImportError:
        raise MissingPackage("ufal-kenlm", "ngram") from None
    return kenlm


def _load(path: str) -> Any:
    kenlm = _kenlm()
    config = kenlm.Config()
    config.show_progress = False
    config.arpa_complain = kenlm.ARPALoadComplain.NONE
    with _unpacked(path) as plain:
        check_ngram_file(path, plain)
        try:
            return kenlm.Model(plain, config)
        except (OSError, UnicodeDecodeError) as problem:  # a message that quotes the file
            reason = str(problem).replace(plain, path)
            found = f"KenLM cannot read it ({reason})"
            raise InputError(path, None, found, "an ARPA or KenLM binary file") from None


@contextlib.contextmanager
def _unpacked(path: str) -> Iterator[str]:
    """The file itself, or a temporary plain copy of a ``.gz``: the wheels of KenLM are built
    without gzip. KenLM holds all of the model when it has opened it, so the copy can go."""
    if not path.endswith(".gz"):
        yield path
        return
    with passing_folder() as folder, open(folder / "lm.arpa", "wb") as copy:
        most = MOST_TIMES * os.path.getsize(path) + (64 << 20)
        with open_binary(path) as packed:
            while block := packed.read(1 << 20):
                copy.write(block)
                if copy.tell() > most:
                    found = f"more than {MOST_TIMES} times its size, unpacked"
                    raise InputError(path, None, found, "an ARPA file, which packs by less")
        copy.flush()
        yield copy.name
