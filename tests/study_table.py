"""A small table of a study, for asrprune recommend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def study_row(**changes: Any) -> dict[str, Any]:
    """A row: half of an LM of 4 M parameters, 3 M of them prunable."""
    row = {
        "lm": "small",
        "parameters": 4_000_000,
        "prunable": 3_000_000,
        "training_tokens": 1_000_000,
        "method": "structured",
        "criterion": "kfac",
        "schedule": "cubic",
        "sparsity": 0.5,
        "budget": 0.1,
        "bytes_share": 0.625,
        "perplexity_ratio": [1.2, 1.1, 1.3],
        "wer_difference": [0.4, -0.2, 1.0],
        "speed_ratio": 2.0,
    }
    return row | changes


def write_study_table(path: Path, *rows: dict[str, Any]) -> Path:
    """Write the table; without rows one with two sizes of a family."""
    smaller = study_row(
        sparsity=0.9,
        bytes_share=0.325,
        perplexity_ratio=[2.0, 1.8, 2.2],
        wer_difference=None,
        speed_ratio=4.0,
    )
    head = {"format": "asrprune-study-table", "version": 1, "source": "a test"}
    path.write_text(json.dumps({**head, "rows": list(rows or (study_row(), smaller))}))
    return path
