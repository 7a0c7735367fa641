"""The table that asrprune recommend reads, from the results of a study."""

from __future__ import annotations

import math
from collections.abc import Callable

from claims import FAMILIES, measure
from grid import ELASTIC, on_blocks
from intervals import Estimate
from results_file import Results, size_bytes, speed


def study_table(results: Results) -> dict[str, object]:
    """What asrprune recommend reads: a row for each plan, its seeds averaged; WER on the LM's
    first list."""
    rows = []
    for lm in results.lms:
        perplexity, *lists = measure(lm)
        for plan, cells in lm.pruned.items():
            # for one size a run of its own is better than a family; recommend knows no settings
            if plan.schedule in FAMILIES or ELASTIC.get(plan.schedule):
                continue
            ratio = (perplexity.pruned[plan] - perplexity.dense).estimate()
            wer = None
            if lists and plan in lists[0].pruned:
                wer = _three((lists[0].pruned[plan] - lists[0].dense).estimate(), _rounded)
            fast, dense = speed(cells), lm.dense.times_padded
            rows.append(
                {
                    "lm": lm.name,
                    "parameters": lm.parameters,
                    "d_model": lm.d_model,
                    "training_tokens": lm.training_tokens,
                    "method": on_blocks(plan.method),
                    "criterion": plan.criterion,
                    "schedule": plan.schedule,
                    "sparsity": plan.sparsity,
                    "budget": plan.budget,
                    "bytes": round(size_bytes(cells)),
                    "dense_bytes": lm.dense.size_bytes,
                    "perplexity_ratio": _three(ratio, lambda value: _rounded(math.exp(value))),
                    "wer_difference": wer,
                    "speed_ratio": _rounded(fast / dense) if fast and dense else None,
                    "set": cells[0].settings,
                    "statistics_tokens": cells[0].statistics_tokens or lm.statistics_tokens,
                }
            )
    source = "recipes/study/RESULTS.md"
    return {"format": "asrprune-study-table", "version": 1, "source": source, "rows": rows}


def _three(one: Estimate, of: Callable[[float], float]) -> list[float]:
    return [of(one.value), of(one.low), of(one.high)]


def _rounded(value: float) -> float:
    return round(value, 4) + 0.0  # no -0.0
