"""Where a run stands between two pruning steps, on disk: what a killed run goes on from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import torch

from asrprune.core.record import a, a_count, an_object_of, read_record
from asrprune.core.resume import read_state
from asrprune.core.tensor_file import load_tensors
from asrprune.files import PathLike, write_folder, write_json
from asrprune.lm.model.checkpoint import load_checkpoint, save_checkpoint
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.masks import Masks
from asrprune.prune.run.fine_tuning import Movement, Spent

STATE = "state"
"""Folder in the output folder, gone when the run is done."""


@dataclass
class RunState:
    """A run between two pruning steps."""

    model: TransformerLM
    masks: Masks
    history: list[Mapping[str, Any]]
    steps_done: int = 0
    spent: Spent = field(default_factory=Spent)
    batches: Mapping[str, int] = field(default_factory=dict)
    movement: dict[str, Movement] = field(default_factory=dict)


def save_state(out: Path, run: int, state: RunState, tokenizer: PathLike) -> None:
    """Write the state of run number ``run`` of a family, whole or not at all."""
    with write_folder(out / STATE) as folder:
        save_checkpoint(folder / "model", state.model, tokenizer, {}, tuple(state.history))
        torch.save({str(place): mask for place, mask in state.masks.items()}, folder / "masks.pt")
        movement = {name: (one.mean, one.weight) for name, one in state.movement.items()}
        torch.save(movement, folder / "movement.pt")
        write_json(
            folder / "state.json",
            {
                "run": run,
                "steps_done": state.steps_done,
                "spent": vars(state.spent),
                "batches": dict(state.batches),
            },
        )


def load_state(out: Path, run: int, device: torch.device) -> Optional[RunState]:
    """The saved state of run number ``run``; None when there is none of it, or it is damaged."""
    folder = out / STATE
    return read_state(folder, lambda: _read(folder, run, device)) if folder.is_dir() else None


def _read(folder: Path, run: int, device: torch.device) -> Optional[RunState]:
    value = read_record(folder / "state.json")
    if value.get("run", a_count) != run:
        return None
    batches = value.get("batches", an_object_of(a_count))
    saved = load_checkpoint(folder / "model", str(device))
    masks = load_tensors(folder / "masks.pt", device)
    movement = load_tensors(folder / "movement.pt", device)
    sizes = {
        str(place): (one.out_features, one.in_features) for place, one in saved.model.linears()
    }
    for name, mask in masks.items():
        if mask.dtype != torch.bool or tuple(mask.shape) != sizes[name]:
            raise ValueError(f"a mask of {name} of shape {list(mask.shape)}")
    return RunState(
        saved.model,
        {Place.parse(text): mask for text, mask in masks.items()},
        list(saved.history),
        value.get("steps_done", a_count),
        value.get("spent", a(Spent)),
        batches,
        {name: Movement(*pair) for name, pair in movement.items()},
    )


def drop_state(out: Path) -> None:
    """Remove the state of a run that is done."""
    shutil.rmtree(out / STATE, ignore_errors=True)
