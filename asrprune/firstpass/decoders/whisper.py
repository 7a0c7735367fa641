"""First pass with Whisper (faster-whisper, CTranslate2): the beam of an utterance as its list."""

from __future__ import annotations

import heapq
import logging
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError, MissingPackage
from asrprune.files import PathLike, sha256
from asrprune.firstpass.decoders.decoder import SAMPLING_RATE, Decoded
from asrprune.text.normalise import normaliser

WINDOW_S = 30.0
"""Whisper hears this much at once."""
_QUIET_S = 0.2
_NO_WORD = re.compile(r"[\d%$€£&+=@#°]")
MODEL_FILES = ("model.bin", "config.json", "tokenizer.json")


@dataclass(frozen=True)
class WhisperConfig:
    """``model``: folder of a Whisper model that CTranslate2's converter wrote, with its
    ``tokenizer.json``. ``nbest``: width of the beam, and hypotheses kept of it. ``normalise``: the
    normaliser whose form the words get; with any but ``none`` numbers and signs are spelled as
    words. ``language``: what is spoken (ISO 639-1). ``device`` and ``compute_type``:
    CTranslate2's (``auto``, ``cpu``, ``cuda``; ``default``, ``int8``, ``float16``, ...)."""

    name: ClassVar[str] = "whisper"
    packages: ClassVar[tuple[str, ...]] = ("faster-whisper", "ctranslate2")
    description: ClassVar[str] = "Whisper models in CTranslate2's form, from a folder (--model)"

    model: str = field(compare=False)  # what is in it is compared
    nbest: int = 20
    normalise: str = "asr"
    language: str = "en"
    device: str = "auto"
    compute_type: str = "default"

    def __post_init__(self) -> None:
        if self.nbest < 1:
            raise ValueError(f"nbest is {self.nbest}; expected at least 1")

    def open(self, temporary: Optional[PathLike] = None) -> Whisper:
        """The decoder; it writes no files."""
        return Whisper(self)


class Writing(NamedTuple):
    """A hypothesis as Whisper writes it: ln P of its tokens and of the end, and their number."""

    text: str
    total: float
    n_tokens: int

    @property
    def rank(self) -> float:
        """What Whisper ranks by: ln P for each token."""
        return self.total / max(self.n_tokens, 1)


class Whisper:
    """Beam search over the tokens of one window of 30 s; longer audio is cut where it is quietest,
    and its list are the best combinations of the windows' lists.

    The acoustic score of a hypothesis is the natural log of the probability that the model gives
    its tokens and the end, its own LM included; there is no LM score. Writings of the same words
    (case, punctuation) become one hypothesis with the sum of their probabilities. The list keeps
    Whisper's order, by ln P for each token: by ln P alone short hypotheses win.
    """

    weights = ScoreWeights(1.0, 0.0)

    def __init__(self, config: WhisperConfig) -> None:
        try:
            import ctranslate2
            from faster_whisper import WhisperModel
            from faster_whisper.tokenizer import Tokenizer
            from faster_whisper.transcribe import get_suppressed_tokens
        except ImportError:
            raise MissingPackage("faster-whisper", "whisper") from None
        ctranslate2.set_log_level(logging.ERROR)  # settings say which type it computes in
        folder = Path(config.model)
        for name in MODEL_FILES:
            if not (folder / name).is_file():
                expected = f"a folder with {', '.join(MODEL_FILES)}, as ct2-transformers-converter "
                expected += "--copy_files tokenizer.json preprocessor_config.json writes it"
                raise InputError(folder / name, None, "no such file", expected)
        try:
            self._model: Any = WhisperModel(
                str(folder),
                device=config.device,
                compute_type=config.compute_type,
                cpu_threads=1,
                local_files_only=True,
            )
            tokenizer: Any = Tokenizer(
                self._model.hf_tokenizer,
                self._model.model.is_multilingual,
                task="transcribe",
                language=config.language,
            )
        except Exception as problem:  # tokenizers raises nothing more special
            found = str(problem) or type(problem).__name__
            raise InputError(folder, None, found, "a Whisper model of CTranslate2") from None
        self.config = config
        self._decode: Any = tokenizer.decode
        self._prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
        self._words = normaliser(config.normalise, config.language)
        unwanted = set(get_suppressed_tokens(tokenizer, [-1]))
        if config.normalise != "none":
            texts = enumerate(tokenizer.decode([token]) for token in range(tokenizer.eot))
            unwanted.update(token for token, text in texts if _NO_WORD.search(text))
        self._suppressed = sorted(unwanted)
        self.settings: dict[str, Any] = {
            "model_sha256": {name: sha256(folder / name) for name in MODEL_FILES},
            "device": self._model.model.device,
            "compute_type": self._model.model.compute_type,
        }

    def decode(self, utt: str, samples: NDArray[np.int16], ref: Optional[str] = None) -> Decoded:
        """Decode one utterance of 16 kHz samples, shape [n_samples]."""
        began = time.perf_counter()
        lists = [self._beam(window) for window in windows(samples)]
        decoded = time.perf_counter()
        hyps = merged(
            [w._replace(text=self._words(w.text)) for w in combined(lists, self.config.nbest)]
        )
        hyps = hyps or [Hypothesis("", None, None)]
        nbest = NBest(utt, tuple(hyps), len(samples) / SAMPLING_RATE, ref)
        ended = time.perf_counter()
        return Decoded(nbest, None, hyps[0].text, decoded - began, ended - decoded)

    def _beam(self, samples: NDArray[np.int16]) -> list[Writing]:
        """What the beam holds at its end, best first."""
        from faster_whisper.audio import pad_or_trim

        extract = self._model.feature_extractor
        features = extract(samples.astype(np.float32) / 32768.0)[:, : extract.nb_max_frames]
        result = self._model.model.generate(
            self._model.encode(pad_or_trim(features, extract.nb_max_frames)),
            [self._prompt],
            beam_size=self.config.nbest,
            num_hypotheses=self.config.nbest,
            length_penalty=1.0,
            return_scores=True,
            suppress_tokens=self._suppressed,
        )[0]
        # the score is ln P, the end's included, divided by the number of tokens without the end; it
        # is -inf for what Whisper does not allow, the empty hypothesis
        return [
            Writing(self._decode(ids), score * max(len(ids), 1), len(ids))
            for ids, score in zip(result.sequences_ids, result.scores)
            if math.isfinite(score)
        ]


def windows(samples: NDArray[np.int16]) -> Iterator[NDArray[np.int16]]:
    """Parts of at most 30 s of samples of 16 kHz, cut in the second half of such a part where 0.2 s
    are quietest; at least one part."""
    longest, quiet = int(WINDOW_S * SAMPLING_RATE), int(_QUIET_S * SAMPLING_RATE)
    while len(samples) > longest:
        start = longest // 2
        energy = np.cumsum(np.square(samples[start:longest].astype(np.float64)))
        at = start + int(np.argmin(energy[quiet:] - energy[:-quiet])) + quiet // 2
        yield samples[:at]
        samples = samples[at:]
    yield samples


def combined(lists: Sequence[Sequence[Writing]], count: int) -> list[Writing]:
    """The ``count`` best ways of saying one writing of each list after the other, best first.

    In a window of an empty list nothing is said, which costs nothing."""
    said = [writings for writings in lists if writings]
    best = list(said[0]) if said else []
    for later in said[1:]:
        pairs = (
            Writing(f"{a.text} {b.text}", a.total + b.total, a.n_tokens + b.n_tokens)
            for a in best
            for b in later
        )
        best = heapq.nlargest(count, pairs, key=lambda writing: writing.rank)
    return best


def merged(writings: Sequence[Writing]) -> list[Hypothesis]:
    """Equal texts as one hypothesis with the sum of their probabilities, at the first one's place.

    >>> [h.text for h in merged([Writing("a b", -1.0, 2), Writing("a", -2.0, 1),
    ...                          Writing("a b", -1.5, 2)])]
    ['a b', 'a']
    """
    totals: dict[str, list[float]] = {}
    for writing in writings:
        totals.setdefault(writing.text, []).append(writing.total)
    return [Hypothesis(text, _log_sum(found), None) for text, found in totals.items()]


def _log_sum(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))
