"""Utterance ids out of paths: what decoders write where an id is due."""

from __future__ import annotations

import re

AUDIO = ("wav", "flac", "sph", "mp3", "m4a", "ogg", "opus", "aiff", "aif", "raw", "pcm", "au")
FEATURES = ("mfc", "mfcc", "plp", "fbk", "fbank", "fea", "feat", "htk", "usr", "lpc")
_SUFFIX = re.compile(rf"(?<=.)\.(?:{'|'.join((*AUDIO, *FEATURES))})$", re.IGNORECASE)
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def id_of_path(path: str) -> str:
    r"""The id that a path stands for: its last part without the suffix of an audio or feature file.

    White space becomes ``_``, since ids hold none. Other suffixes belong to the id, and so does a
    name that is nothing but a suffix. "" for a path that ends in no name.

    >>> id_of_path("/data/my talks/day 1.wav"), id_of_path("sw02001.A.mfc"), id_of_path("u-1")
    ('day_1', 'sw02001.A', 'u-1')
    >>> id_of_path(r"C:\feat\u1.plp")
    'u1'
    """
    return "_".join(_SUFFIX.sub("", folders_and_name(path)[-1]).split())


def folders_and_name(path: str) -> list[str]:
    """The parts of a path of either operating system, its name last.

    >>> folders_and_name("/data//spk7/001.wav")
    ['data', 'spk7', '001.wav']
    """
    plain = path.replace("\\", "/") if _WINDOWS.match(path) else path
    return [part for part in plain.split("/") if part] or [""]
