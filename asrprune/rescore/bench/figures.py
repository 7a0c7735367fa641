"""What a measurement says of one LM, as ``asrprune bench`` writes it: the keys of its JSON."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Optional

from asrprune.core.hypothesis import NBest
from asrprune.files import PathLike
from asrprune.lm.model.checkpoint import is_checkpoint, load_checkpoint
from asrprune.lm.model.elastic import Size
from asrprune.lm.model.transformer import count_nonzero, count_parameters
from asrprune.lm.protocol import LanguageModel
from asrprune.rescore.bench.bench import BenchResult, speed_up
from asrprune.rescore.bench.machine import describe_run
from asrprune.rescore.weights_file import set_hashes


def describe_lm(
    path: PathLike, lm: LanguageModel, threads: Optional[int], size: Optional[Size] = None
) -> dict[str, Any]:
    """Name, engine, device, threads and size of ``lm``, opened from ``path`` (an elastic one cut to
    ``size``); of a checkpoint also its parameters, its pruning steps, and the number format that it
    was trained in (None for a checkpoint that does not say).

    Raises InputError for a checkpoint that is damaged.
    """
    figures: dict[str, Any] = {"lm": lm.name, **describe_run(lm, threads)}
    if not is_checkpoint(path):
        return {**figures, "size_bytes": os.path.getsize(path)}
    checkpoint = load_checkpoint(path, mapped=True, size=size)
    training = checkpoint.provenance.get("training")
    return {
        **figures,
        "parameters": count_parameters(checkpoint.model),
        "nonzero_parameters": count_nonzero(checkpoint.model),
        "size_bytes": checkpoint.size_bytes(),
        "training_precision": training.get("precision") if isinstance(training, Mapping) else None,
        "history": list(checkpoint.history),
    }


def system_row(result: BenchResult, yardstick: BenchResult) -> dict[str, Any]:
    """The times of one system; ``speed_up`` is the median of ``yardstick`` over its own."""
    timing = result.timing
    return {
        "name": result.name,
        "wall_s": timing.wall_s,
        "runs_s": list(result.runs_s),
        "audio_s": timing.audio_s,
        "rtf": timing.rtf,
        "tokens": timing.tokens,
        "unique_tokens": timing.unique_tokens,
        "tokens_per_s": timing.tokens_per_s,
        "unique_ratio": timing.unique_ratio,
        "speed_up": yardstick.timing.wall_s / timing.wall_s,
    }


def times_padded(result: BenchResult, padded: BenchResult, name: str) -> dict[str, Any]:
    """How many times as fast as the ``padded`` batch of the LM called ``name`` a system is."""
    return {"lm": name, **asdict(speed_up(padded, result))}


def describe_turns(
    lists: Iterable[NBest], results: Sequence[BenchResult], padded_lm_hash: Optional[str] = None
) -> dict[str, Optional[str]]:
    """What tells whether two measurements may be compared: hashes of the times, which all of one
    run share, of the lists, and of the LM whose padded batch is the yardstick."""
    times = "\n".join(f"{one.name} {one.runs_s}" for one in results)
    return {
        "times_hash": hashlib.sha256(times.encode()).hexdigest()[:16],
        "nbest_hash": set_hashes(lists)["nbest_hash"],
        "padded_lm_hash": padded_lm_hash,
    }
