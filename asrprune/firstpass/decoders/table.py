"""First-pass decoders that can be run from here, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asrprune.firstpass.decoders.decode import decode_cuts

DECODERS: dict[str, Callable[..., dict[str, Any]]] = {"pocketsphinx": decode_cuts}
"""decoder -> what decodes a CutSet with it, called as ``decode_cuts`` is."""
