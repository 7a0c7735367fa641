"""Decodes two seconds of silence with sherpa-onnx: arguments as JSON in, result as JSON out.

A process of its own: sherpa-onnx ends the process where a model is not what it expects.
"""

from __future__ import annotations

import json
import sys
from typing import Any

SECONDS, RATE = 2, 16000


def decode(streaming: bool, streams: int, options: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of so many streams at once."""
    import numpy as np
    import sherpa_onnx

    kind = sherpa_onnx.OnlineRecognizer if streaming else sherpa_onnx.OfflineRecognizer
    recogniser = kind.from_transducer(
        num_threads=1, decoding_method="modified_beam_search", provider="cpu", **options
    )
    silence = np.zeros(SECONDS * RATE, np.float32)
    made = [recogniser.create_stream() for _ in range(streams)]
    for one in made:
        one.accept_waveform(RATE, silence)
    if not streaming:
        recogniser.decode_streams(made)
        return [{"tokens": one.result.tokens} for one in made]
    for one in made:
        one.input_finished()
        while recogniser.is_ready(one):
            recogniser.decode_stream(one)
    return [json.loads(recogniser.get_result_as_json_string(one)) for one in made]


if __name__ == "__main__":
    json.dump(decode(**json.load(sys.stdin)), sys.stdout)
