"""First-pass decoders that can be run from here, by name."""

from __future__ import annotations

from typing import Union

from asrprune.firstpass.decoders.pocketsphinx import PocketSphinxConfig
from asrprune.firstpass.decoders.whisper import WhisperConfig

DECODERS: dict[str, Union[type[PocketSphinxConfig], type[WhisperConfig]]] = {
    config.name: config for config in (PocketSphinxConfig, WhisperConfig)
}
"""decoder -> its configuration, made of the options that are its fields."""
