"""First pass with pocketsphinx: one utterance in, its n-best list and its lattice out."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import EPSILON, Lattice, sorted_lattice
from asrprune.core.lattice.ngram_scores import expand_lm
from asrprune.core.lattice.paths import k_best, prune_lattice
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError, MissingPackage
from asrprune.files import PathLike, passing_folder
from asrprune.firstpass.decoders.decoder import SAMPLING_RATE, Decoded
from asrprune.firstpass.formats.pocketsphinx_lat import read_pocketsphinx_lat

LM_ORDER = 3
"""The decoder's last pass scores a word by the two words before it."""


@dataclass(frozen=True)
class PocketSphinxConfig:
    """``nbest``: hypotheses kept an utterance. ``lattice_beam``: how far below the best a path of
    the stored lattice may be, in units of the decoder's total. ``max_hmms``: most active HMMs of a
    frame, ``max_words``: most words that end in it (pocketsphinx's maxhmmpf and maxwpf); None
    keeps the decoder's own limit. Fewer decode faster."""

    name: ClassVar[str] = "pocketsphinx"
    packages: ClassVar[tuple[str, ...]] = ("pocketsphinx",)
    description: ClassVar[str] = "pocketsphinx with the US-English model that comes with it"

    nbest: int = 100
    lattice_beam: float = 100.0
    max_hmms: Optional[int] = None
    max_words: Optional[int] = None

    def __post_init__(self) -> None:
        if self.nbest < 1:
            raise ValueError(f"nbest is {self.nbest}; expected at least 1")
        if not self.lattice_beam >= 0:
            raise ValueError(f"lattice beam is {self.lattice_beam}; expected >= 0")
        for name in ("max_hmms", "max_words"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1, or none")

    def open(self, temporary: Optional[PathLike] = None) -> PocketSphinx:
        """The decoder."""
        return PocketSphinx(self, temporary)


class PocketSphinx:
    """The bundled US-English model: acoustic model, dictionary and trigram.

    Why lattices and not the decoder's n-best: its n-best scores are linear, underflow, and mix
    acoustic and LM scores. In the lattice the acoustic scores stand alone, and the trigram can
    be asked for exact LM scores, so both are stored apart and unscaled. The penalties of silence
    and fillers are inside the acoustic scores, as the decoder puts them there. The acoustic score
    of a lattice's final node is missing; it is the same for all hypotheses of an utterance.

    ``weights`` restate the decoder's last pass over the lattice: with language weight lw, word
    insertion probability wip and lattice language weight b it adds b/lw (lw ln p + ln wip) for
    each word, that is b ln p + (b/lw) ln wip. It rounds each term down to a multiple of
    1024 ln 1.0001 (about 0.1) and merges histories; here both are exact, so that now and then
    another hypothesis comes out on top.
    """

    def __init__(self, config: PocketSphinxConfig, temporary: Optional[PathLike] = None) -> None:
        """``temporary``: a folder for the decoder's lattice files (default: the system's)."""
        try:
            import pocketsphinx
        except ImportError:
            raise MissingPackage("pocketsphinx", "mini") from None
        self.config = config
        self._temporary = temporary
        limits = {"maxhmmpf": config.max_hmms, "maxwpf": config.max_words}
        # batch: the cepstral mean of each utterance alone, so that no utterance changes another
        self._decoder: Any = pocketsphinx.Decoder(
            loglevel="FATAL",
            cmn="batch",
            **{name: value for name, value in limits.items() if value is not None},
        )
        self._lm: Any = self._decoder.get_lm()
        settings = self._decoder.config
        self._ln_base = math.log(settings["logbase"])
        ratio = settings["bestpathlw"] / settings["lw"]
        self.weights = ScoreWeights(
            1.0, settings["bestpathlw"], (), ratio * math.log(settings["wip"])
        )
        names = ["lw", "fwdflatlw", "bestpathlw", "wip", "silprob", "fillprob", "logbase", "cmn"]
        names += ["maxhmmpf", "maxwpf"]
        self.settings: dict[str, Any] = {name: settings[name] for name in names}

    def decode(self, utt: str, samples: NDArray[np.int16], ref: Optional[str] = None) -> Decoded:
        """Decode one utterance of 16 kHz samples, shape [n_samples].

        The n-best list is sorted by the total of ``weights``. Where the decoder finds nothing,
        the list holds the empty hypothesis, with unknown acoustic score and the LM score of the
        empty sentence.
        """
        began = time.perf_counter()
        text = self._run(samples)
        lattice = None if text is None else self._lattice(utt)
        decoded = time.perf_counter()
        audio_s = len(samples) / SAMPLING_RATE
        hyps: tuple[Hypothesis, ...] = ()
        if lattice is not None:
            full = replace(self.add_lm_scores(lattice), audio_s=audio_s)
            lattice = prune_lattice(full, self.weights, self.config.lattice_beam)
            hyps = self._nbest(full, lattice)
        if not hyps:
            lattice = None
            hyps = (Hypothesis("", None, self._word_score(("<s>",), "</s>")),)
        nbest = NBest(utt, hyps, audio_s, ref)
        ended = time.perf_counter()
        return Decoded(nbest, lattice, text or "", decoded - began, ended - decoded)

    def add_lm_scores(self, lattice: Lattice) -> Lattice:
        """The decoder's own lattice, as a file of it says, with the trigram's exact scores and
        the decoder's ``weights``."""
        lattice = sorted_lattice(lattice)
        full = expand_lm(lattice, self._word_score, LM_ORDER, _ends_in_filler(lattice))
        return replace(full, audio_s=lattice.audio_s, weights=self.weights)

    def _nbest(self, full: Lattice, pruned: Lattice) -> tuple[Hypothesis, ...]:
        """The n-best of ``full``, from the much smaller ``pruned`` where that holds all of it."""
        weights = self.weights
        hyps = k_best(pruned, self.config.nbest, weights)
        if len(hyps) == self.config.nbest:
            ends = (hyps[0], hyps[-1])
            top, last = (weights.total(h.acoustic, h.lm, (), len(h.words)) for h in ends)
            if top - last < self.config.lattice_beam:
                return hyps
        return k_best(full, self.config.nbest, weights)

    def _run(self, samples: NDArray[np.int16]) -> Optional[str]:
        """The decoder's own 1-best; None when it finds none, and for digital silence."""
        if not len(samples) or (samples == samples[0]).all():
            return None  # what it finds in digital silence depends on the utterance before
        # a new front end: the noise estimate of the utterance before would change this one
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(samples.astype("<i2").tobytes(), full_utt=True)
        self._decoder.end_utt()
        best = self._decoder.hyp()
        return None if best is None else " ".join(best.hypstr.split())

    def _lattice(self, utt: str) -> Optional[Lattice]:
        lattice = self._decoder.get_lattice()
        if lattice is None:
            return None
        with passing_folder(self._temporary) as folder:
            path = folder / "utterance.lat"
            lattice.write(str(path))
            try:
                return sorted_lattice(read_pocketsphinx_lat(path, utt))
            except InputError:
                _check_room(folder / "room")
                raise

    def _word_score(self, history: tuple[str, ...], word: str) -> float:
        # the decoder's LM wants the word first, then the history from new to old
        return float(self._lm.prob([word, *reversed(history)])) * self._ln_base


def _check_room(path: Path) -> None:
    """Raise OSError where a file cannot be written: the decoder does not say that it could not."""
    with path.open("wb") as file:
        file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())


def _ends_in_filler(lattice: Lattice) -> bool:
    """Whether the final node is ``</s>`` or a filler, which the decoder scores as ``</s>``.

    An utterance cut off inside a word ends in that word; the decoder then scores no ``</s>``.
    """
    entering = lattice.word[lattice.dst == lattice.final]
    return bool((entering == EPSILON).all())
