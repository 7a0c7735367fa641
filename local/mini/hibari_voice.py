"""Speech from the neural voice of the PyPI package hibari-tts, for machines without flite."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asrprune.errors import MissingPackage
from asrprune.lm.engines.onnx_runtime.session import import_onnxruntime

SPEAKER = "heart"  # the voice inside the package; it would have to download the others
SEED = 0  # of the noise in fricatives
HIBARI_RATE, SAMPLING_RATE = 24000, 16000  # Hz


class Hibari:
    """Reads every text with the one voice that needs no download (American English, female).

    The same text gives the same samples on the same kind of processor; the model multiplies in 8
    bits, which processors round in different ways. Raises MissingPackage.
    """

    name = "hibari"

    def __init__(self, voices: Sequence[str]) -> None:
        try:
            import hibari
        except ImportError:
            raise MissingPackage("hibari-tts", "mini") from None
        import_onnxruntime()  # before hibari does, which would let it report
        self._model = hibari.Hibari(voice=SPEAKER, threads=1)

    def speaker(self, voice: str) -> str:
        """Who reads the texts of this voice of the list: always the same."""
        return SPEAKER

    def write(self, text: str, voice: str, wav: Path) -> None:
        """Read the text into a wav file, with a full stop, so that the voice falls at the end.
        Raises RuntimeError for a text without a sound."""
        spoken = self._model(f"{text}.", seed=SEED)
        if not len(spoken):
            raise RuntimeError("hibari says nothing")
        samples = to_16_khz(spoken)
        with wave.open(str(wav), "wb") as stream:
            stream.setnchannels(1)
            stream.setsampwidth(2)
            stream.setframerate(SAMPLING_RATE)
            stream.writeframes(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def to_16_khz(samples: NDArray[np.floating]) -> NDArray[np.float64]:
    """Two samples for every three: [n] at 24 kHz -> [ceil(n/3) * 2] at 16 kHz, same amplitude.

    The spectrum is cut at 8 kHz, which treats the signal as periodic; it starts and ends in
    silence. The signal must not be empty.
    """
    thirds = -(-len(samples) // 3)
    padded = np.pad(samples.astype(np.float64), (0, 3 * thirds - len(samples)))
    spectrum = np.fft.rfft(padded)[: thirds + 1]
    spectrum[-1] = 0  # 8 kHz itself, of which 16 kHz cannot hold the phase
    return np.fft.irfft(spectrum, 2 * thirds) * (SAMPLING_RATE / HIBARI_RATE)
