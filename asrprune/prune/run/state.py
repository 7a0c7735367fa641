"""Where a run stands on disk, between two pruning steps or within the fine-tuning of one: what a
killed run goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import torch

from asrprune.core.config import from_values
from asrprune.core.resume import check_same_run, read_state
from asrprune.lm.model.elastic import Elastic
from asrprune.lm.model.shapes import ModelShape, Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.state_file import read_state_file, write_state
from asrprune.lm.training.distributed import ProcessGroup
from asrprune.prune.masks import EMBEDDING, POSITIONS, Masks
from asrprune.prune.run.fine_tuning import Begun, Movement, Spent

STATE = "state.pt"
"""File in the working folder, gone when the run is done."""


@dataclass(frozen=True)
class Within:
    """A pruning step that has been made but for a part of its fine-tuning.

    ``elastic``, ``perplexities``: what it delivers beside the model; see PrunedLM. ``pruned_s``:
    seconds before the fine-tuning, of which there is what has ``begun``.
    """

    elastic: Optional[Elastic]
    perplexities: Mapping[float, Optional[float]]
    pruned_s: float
    begun: Optional[Begun] = None


@dataclass
class RunState:
    """A run between two pruning steps, or ``within`` one."""

    model: TransformerLM
    masks: Masks
    history: list[Mapping[str, Any]]
    steps_done: int = 0
    spent: Spent = field(default_factory=Spent)
    batches: Mapping[str, int] = field(default_factory=dict)
    movement: dict[str, Movement] = field(default_factory=dict)
    within: Optional[Within] = None


SavedState = tuple[int, RunState]
"""The number of the run in its family, and where it stood."""


def save_state(work: Path, run: int, state: RunState, identity: Mapping[str, Any]) -> None:
    """Write the state of run number ``run`` of the family of ``identity``, whole or not at all."""
    write_state(work / STATE, {"identity": json.dumps(identity), "run": run, **_values(state)})


def from_first(group: ProcessGroup, saved: Optional[SavedState]) -> Optional[SavedState]:
    """What the first process has ``saved``, in all of them; the others' is not read."""
    run = group.from_first(lambda: None if saved is None else saved[0])
    if run is None or group.world == 1:
        return saved
    values = group.from_first(lambda: {} if saved is None else _values(saved[1]))
    return saved if group.is_first else (run, _state(values, group.device))


def take_over(group: ProcessGroup, state: RunState) -> None:
    """Give ``state`` in every process the model and the masks of the first: all decide alike,
    however their processors round."""
    if group.world > 1:
        values = group.from_first(lambda: _values(replace(state, movement={})))
        if not group.is_first:
            first = _state(values, group.device)
            state.model, state.masks = first.model, first.masks


def _values(state: RunState) -> dict[str, Any]:
    texts = {"shape": state.model.shape.to_dict(), "history": state.history}
    return {
        **{name: json.dumps(value) for name, value in texts.items()},
        "steps_done": state.steps_done,
        "spent": vars(state.spent),
        "batches": dict(state.batches),
        "model": dict(state.model.state_dict()),
        "masks": {str(place): mask for place, mask in state.masks.items()},
        "movement": {name: (one.mean, one.weight) for name, one in state.movement.items()},
        "within": None if state.within is None else _values_within(state.within),
    }


def _values_within(within: Within) -> dict[str, Any]:
    elastic, begun = within.elastic, within.begun
    return {
        "elastic": json.dumps(None if elastic is None else asdict(elastic)),
        "perplexities": json.dumps(list(within.perplexities.items())),
        "pruned_s": within.pruned_s,
        "begun": None if begun is None else {**vars(begun), "movement": dict(begun.movement)},
    }


def load_state(
    work: Path, identity: Mapping[str, Any], device: torch.device
) -> Optional[SavedState]:
    """The saved state of the run in the family of ``identity`` that was under way.

    None when there is none, or, with a warning, a damaged one. Raises AnotherRunError for that of
    another family.
    """
    path = work / STATE
    value = read_state(path, lambda: read_state_file(path, device)) if path.is_file() else None
    if value is None:
        return None
    stated = read_state(path, lambda: json.loads(value["identity"]))
    if stated is None:
        return None
    check_same_run(work, stated, identity)
    return read_state(path, lambda: (int(value["run"]), _state(value, device)))


def _state(value: Mapping[str, Any], device: torch.device) -> RunState:
    model = TransformerLM(ModelShape.from_dict(json.loads(value["shape"]))).to(device)
    model.load_state_dict(value["model"])
    sizes = {place: (one.out_features, one.in_features) for place, one in model.linears()}
    rows, columns = model.embedding.weight.shape
    sizes[EMBEDDING] = (rows, columns)
    if model.positions is not None:
        sizes[POSITIONS] = (model.max_positions, model.width)
    masks = {Place.parse(text): mask for text, mask in dict(value["masks"]).items()}
    for place, mask in masks.items():
        if mask.dtype != torch.bool or tuple(mask.shape) != sizes[place]:
            raise ValueError(f"a mask of {place} of shape {list(mask.shape)}")
    return RunState(
        model.eval(),
        masks,
        json.loads(value["history"]),
        value["steps_done"],
        Spent(**value["spent"]),
        value["batches"],
        {name: Movement(*pair) for name, pair in dict(value["movement"]).items()},
        _within(value.get("within")),
    )


def _within(value: Optional[Mapping[str, Any]]) -> Optional[Within]:
    if value is None:  # as states of earlier versions are, too
        return None
    elastic, begun = json.loads(value["elastic"]), value["begun"]
    return Within(
        None if elastic is None else from_values(Elastic, elastic),
        dict(json.loads(value["perplexities"])),
        value["pruned_s"],
        None if begun is None else Begun(**begun),
    )
