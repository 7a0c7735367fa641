"""Speech from flite, a small synthesiser with several built-in voices (Debian package flite)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from asrprune.errors import InputError


class NoFlite(Exception):
    """flite is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "flite: command not found; expected: apt-get install -y flite,"
            " or --synthesiser hibari, which needs no more than Python"
        )


class Flite:
    """Reads each text with the flite voice that the list names, at 16 kHz.

    flite is deterministic: the same text gives the same samples. Raises NoFlite, or InputError when
    it lacks one of the voices.
    """

    name = "flite"

    def __init__(self, voices: Sequence[str]) -> None:
        flite = shutil.which("flite")
        if flite is None:
            raise NoFlite
        run = subprocess.run([flite, "-lv"], capture_output=True, text=True, check=False)
        known = run.stdout.partition(":")[2].split()
        missing = sorted(set(voices) - set(known))
        if missing:
            raise InputError(flite, None, f"no voice {missing[0]}", f"one of {' '.join(known)}")
        self._flite = flite

    def speaker(self, voice: str) -> str:
        """Who reads the texts of this voice of the list: the voice itself."""
        return voice

    def write(self, text: str, voice: str, wav: Path) -> None:
        """Read the text into a wav file. Raises RuntimeError with flite's own words."""
        call = [self._flite, "-voice", voice, "-t", text, "-o", str(wav)]
        done = subprocess.run(
            call, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0 or not wav.exists():
            raise RuntimeError(f"flite failed ({done.stderr.strip() or done.returncode})")
