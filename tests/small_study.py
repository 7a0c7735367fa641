"""A table of a study with made-up numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def study_row(method: str, sparsity: float, ratio: float, **other: Any) -> dict[str, Any]:
    """A row of the LM "small"; ``ratio`` is that of the perplexities."""
    return {
        **{"lm": "small", "parameters": 5000, "d_model": 16, "training_tokens": 1000000},
        **{"method": method, "criterion": "kfac", "schedule": "cubic", "sparsity": sparsity},
        "budget": 0.01,
        **{"perplexity_ratio": [ratio, ratio - 0.01, ratio + 0.01]},
        **{"wer_difference": None, "speed_ratio": None, **other},
    }


ROWS = (
    study_row("low-rank", 0.3, 1.05, speed_ratio=1.5),
    study_row("low-rank", 0.5, 1.2, speed_ratio=2.0),
    study_row("structured", 0.3, 1.1, wer_difference=[0.1, -0.1, 0.3], speed_ratio=2.0),
    study_row("structured", 0.7, 1.3, wer_difference=[0.5, 0.1, 0.9], speed_ratio=4.0),
)


def save_study(path: Path, rows: tuple[dict[str, Any], ...] = ROWS) -> Path:
    """The table at ``path``."""
    head = {"format": "asrprune-study-table", "version": 1, "source": "RESULTS.md"}
    path.write_text(json.dumps({**head, "rows": list(rows)}))
    return path
