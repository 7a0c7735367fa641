"""Language-model compression for speech recognition, judged end to end.

What ``import asrprune`` offers to notebooks and scripts, imported when it is first used:

- ``read_nbest``, ``read_lattices``, ``read_kaldi_text``, ``write_nbest``: what the first pass found
- ``open_lm``, ``load_checkpoint``, ``save_checkpoint``: language models
- ``score_nbest``: LM scores of every hypothesis
- ``tune_weights``, ``rescore_nbest``, ``rescore_lattices``: the best hypotheses
- ``compute_wer``: their word error rate, with its interval
- ``prune_lm``: smaller LMs
- ``NBest``, ``Hypothesis``, ``ScoreWeights``: the data that these pass on

The sub-packages are the steps of the pipeline, in the order that data meets them:

- ``core``: hypotheses, lattices, score weights, counts, timings (no torch, no I/O)
- ``wer``: word errors, confidence intervals, oracle error rates
- ``text``: normalisation, SentencePiece tokeniser, corpus as a token stream
- ``firstpass``: decoder output in every supported format; decoders that can be run
- ``lm``: Transformer language model, training, checkpoints, scoring, n-gram models
- ``prune``: criteria, methods, schedules, low rank, compaction, families of sizes
- ``rescore``: prefix trie, LM scoring of n-best lists, weight tuning, rescoring
- ``exchange``: files for other decoders
- ``cli``: one thin file a verb
- ``api``: the functions named above

Scores are natural logarithms everywhere; higher is better.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asrprune.api.first_pass import (
        read_kaldi_text,
        read_lattices,
        read_nbest,
        write_nbest,
    )
    from asrprune.api.lms import load_checkpoint, open_lm, save_checkpoint
    from asrprune.api.pruning import prune_lm
    from asrprune.api.rescoring import rescore_lattices, rescore_nbest, tune_weights
    from asrprune.api.scoring import score_nbest
    from asrprune.api.word_errors import compute_wer
    from asrprune.core.hypothesis import Hypothesis, NBest
    from asrprune.core.weights import ScoreWeights

__version__ = "0.1.0"
__all__ = [
    "Hypothesis",
    "NBest",
    "ScoreWeights",
    "compute_wer",
    "load_checkpoint",
    "open_lm",
    "prune_lm",
    "read_kaldi_text",
    "read_lattices",
    "read_nbest",
    "rescore_lattices",
    "rescore_nbest",
    "save_checkpoint",
    "score_nbest",
    "tune_weights",
    "write_nbest",
]

_HOMES = {
    "Hypothesis": "core.hypothesis",
    "NBest": "core.hypothesis",
    "ScoreWeights": "core.weights",
    "compute_wer": "api.word_errors",
    "load_checkpoint": "api.lms",
    "open_lm": "api.lms",
    "prune_lm": "api.pruning",
    "read_kaldi_text": "api.first_pass",
    "read_lattices": "api.first_pass",
    "read_nbest": "api.first_pass",
    "rescore_lattices": "api.rescoring",
    "rescore_nbest": "api.rescoring",
    "save_checkpoint": "api.lms",
    "score_nbest": "api.scoring",
    "tune_weights": "api.rescoring",
    "write_nbest": "api.first_pass",
}
"""name -> module, so that ``import asrprune`` imports none of them."""


if not TYPE_CHECKING:  # checkers know the names from above, and find what is misspelt

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
