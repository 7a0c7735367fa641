"""A process of its own in which llama.cpp answers: it ends the process where it finds a defect.

    python llama_cpp_child.py QUESTIONS ANSWERS

QUESTIONS is JSON: ``model`` (a GGUF file), ``positions``, ``vocab_size``, ``plain`` (a piece that
is text by itself), ``prompts`` (texts or lists of ids). ANSWERS becomes an .npz file: ``scores``
[prompts, V], ln P of every token after each prompt (NaN after one that is too long), and ``counts``
[prompts], its tokens. Attention is computed in float32 with a float32 cache. Imports nothing of
asrprune.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np

_LEAST = -1e38


def open_server(model: str, positions: int, socket: str) -> Any:
    """llama.cpp's server, in this process, with one thread."""
    import xllamacpp  # here, so that the file can be read without

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = positions
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.n_threads_http = 1
    params.cpuparams.n_threads = 1
    params.verbosity = -1
    params.warmup = False
    params.fit_params = False
    params.no_extra_bufts = True
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.hostnames = [socket]
    return xllamacpp.Server(params)


def main() -> None:
    """Answer all questions, or end with a line on stderr and status 1."""
    questions, answers = sys.argv[1:]
    with open(questions, encoding="utf-8") as stream:
        asked = json.load(stream)
    size = asked["vocab_size"]
    socket = os.path.join(os.path.dirname(os.path.abspath(questions)), "llama.sock")
    if os.path.exists(socket):  # of the questions before
        os.remove(socket)
    try:
        server = open_server(asked["model"], asked["positions"], socket)
    except RuntimeError as problem:
        sys.exit(f"the file does not load: {problem}")
    scores = np.full((len(asked["prompts"]), size), np.nan, np.float32)
    counts = np.zeros(len(scores), np.int64)
    for number, prompt in enumerate(asked["prompts"]):
        request = {
            "prompt": prompt,
            "n_predict": 1,
            "n_probs": size,
            "temperature": 1.0,
            "seed": 1,
            "logit_bias": [[asked["plain"], 1e9]],  # bytes that are no text come without scores
        }
        answer = server.handle_completions(request)
        answer = json.loads(answer) if isinstance(answer, str) else answer
        error = answer.get("error") or {}
        if error.get("type") == "exceed_context_size_error":
            counts[number] = error["n_prompt_tokens"]
            continue
        stated = (answer.get("choices") or [{}])[0].get("logprobs")
        if stated is None:
            sys.exit(f"no scores: {json.dumps(answer)[:200]}")
        for one in stated["content"][0]["top_logprobs"]:
            scores[number, one["id"]] = max(one["logprob"], _LEAST)
        counts[number] = answer["usage"]["prompt_tokens"]
    np.savez(answers, scores=scores, counts=counts)
    sys.stdout.flush()
    os._exit(0)  # its own ending waits for threads that may not end


if __name__ == "__main__":
    main()
