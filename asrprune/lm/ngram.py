"""N-gram models through KenLM, behind the same protocol as the Transformer."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.errors import InputError, MissingPackage
from asrprune.files import PathLike, open_binary
from asrprune.lm.protocol import (
    Runtime,
    ScoringStats,
    UnscorableError,
    Words,
    check_sentences,
    check_words,
)

LN_10 = math.log(10.0)
"""ARPA files and KenLM speak log10; one multiplication turns it into the natural log."""

_MISSING_UNK_LOG10 = -100.0  # what KenLM puts in for a file without <unk>
_NEVER_A_WORD = "\x01"
_MARKS = {"<s>", "</s>"}


class NgramLM:
    """An ``.arpa``, ``.arpa.gz`` or KenLM binary file as a LanguageModel.

    A word that the model does not know is scored as ``<unk>``. For a file without ``<unk>`` that
    would be -inf; KenLM's substitute is 10^-100 (-230.26 nats), so that such sentences still have
    an order. ``oov_log_prob`` (natural log) replaces that substitute; it is refused for a file
    that has its own ``<unk>``.

    Raises InputError for a file that KenLM cannot read, MissingPackage without KenLM.
    """

    def __init__(self, path: PathLike, oov_log_prob: Optional[float] = None) -> None:
        self.path = os.fspath(path)
        if not os.path.isfile(self.path):
            raise InputError(self.path, None, "no such file", "an n-gram model")
        self._model = _load(self.path)
        unknown = next(iter(self._model.full_scores(_NEVER_A_WORD, bos=False, eos=False)))
        self.has_unknown = unknown[0] > _MISSING_UNK_LOG10 + 1e-3
        if oov_log_prob is not None and self.has_unknown:
            raise ValueError(f"oov_log_prob is {oov_log_prob}, but {self.path} has its own <unk>")
        self._oov_log_prob = oov_log_prob
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
        """ln P of every word and of ``</s>``, and which of them are OOV: two arrays [words + 1].

        Raises ValueError for a sentence with ``<s>`` or ``</s>`` in it.
        """
        words = sentence.split()
        if not _MARKS.isdisjoint(words):
            raise ValueError(f"sentence {sentence!r} holds <s> or </s>; expected words only")
        scores = list(self._model.full_scores(" ".join(words)))
        log_probs = np.array([score[0] for score in scores], dtype=np.float64) * LN_10
        oov = np.array([score[2] for score in scores], dtype=bool)
        if self._oov_log_prob is not None:
            log_probs[oov] = self._oov_log_prob
        return log_probs, oov

    def begin(self) -> Any:
        """KenLM's state behind ``<s>``."""
        state = _kenlm().State()
        self._model.BeginSentenceWrite(state)
        return state

    def step(self, state: Any, word: str) -> tuple[float, Any]:
        """ln P(word | state), where the word may be ``</s>``, and the state behind it."""
        after = _kenlm().State()
        score = self._model.BaseFullScore(state, word, after)
        if score.oov and self._oov_log_prob is not None:
            return self._oov_log_prob, after
        return float(score.log_prob) * LN_10, after

    def score_lists(self, lists: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
        """ln P(sentence, </s> | <s>) of every sentence: one float64 array per list, in order.

        Raises UnscorableError for a sentence with ``<s>`` or ``</s>`` in it.
        """
        check_sentences(lists)
        for number, hyps in enumerate(lists):
            for index, sentence in enumerate(hyps):
                if not _MARKS.isdisjoint(sentence.split()):
                    problem = "holds <s> or </s>; expected words only"
                    raise UnscorableError((number, index), sentence, problem)
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
        self.tokens = 0

    @property
    def name(self) -> str:
        return self._lm.name

    def score_words(self, lists: Sequence[Sequence[Words]]) -> list[list[NDArray[np.float64]]]:
        """As WordScorer says; ``tokens`` counts no shared prefixes, since nothing is shared."""
        check_words(lists)
        self.tokens += sum(len(hyp) + 1 for hyps in lists for hyp in hyps)
        return [[self._lm.word_log_probs(" ".join(hyp))[0] for hyp in hyps] for hyps in lists]


class NgramPrefixes:
    """A PrefixLM of an n-gram model: KenLM's states."""

    def __init__(self, lm: NgramLM) -> None:
        self._lm = lm
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
        try:
            return kenlm.Model(plain, config)
        except OSError as problem:
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
    with tempfile.NamedTemporaryFile(prefix="asrprune-", suffix=".arpa") as copy:
        with open_binary(path) as packed:
            shutil.copyfileobj(packed, copy)
        copy.flush()
        yield copy.name
