"""Runs of four processes and then of two: python -m tests.lm.training.processes FOLDER."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.optim import AdamW

from asrprune.cli.main import main
from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.lm.training import muon
from asrprune.lm.training.config import ModelConfig, TrainingConfig
from asrprune.lm.training.distributed import ProcessGroup, process_group
from asrprune.lm.training.loop import TrainingLoop
from asrprune.lm.training.optimizers import OptimizerConfig
from asrprune.lm.training.train import train
from asrprune.prune.methods import Options
from asrprune.prune.run import fine_tuning
from asrprune.prune.run.loop import prune_family
from asrprune.prune.run.plan import FineTuning, Plan
from asrprune.prune.run.scorer import PruningData
from asrprune.prune.run.state import STATE
from asrprune.prune.run.steps import PruningRun
from asrprune.text.corpus import Corpus, open_corpus

GPT2 = ModelConfig(d_model=16, n_layers=2, n_heads=2, max_positions=64)
LLAMA = replace(GPT2, architecture="llama", kv_heads=1, tied=False)
MUON = OptimizerConfig(lr=0.01, muon_lr=0.02, warmup_steps=4, clip=0.5)
ADAMW = replace(MUON, optimizer="adamw")
CONFIG = TrainingConfig(
    GPT2,
    MUON,
    tokens_per_batch=128,
    max_steps=6,
    precision="fp32",
    valid_steps=3,
    save_steps=2,
    log_steps=1,
)
TRAININGS = {
    "gpt2 muon dropout": replace(CONFIG, model=replace(GPT2, dropout=0.1), accumulation=4),
    "gpt2 adamw": replace(CONFIG, optimizer=ADAMW),
    "llama muon again": replace(
        CONFIG, model=LLAMA, accumulation=2, checkpoint_activations=True, tokens_per_batch=64
    ),
    "llama adamw bf16": replace(
        CONFIG, model=LLAMA, optimizer=ADAMW, checkpoint_activations=True, precision="bf16"
    ),
}
"""Runs; in the third, batches hold fewer sentences than there are processes."""
KILLED = {"gpt2 muon dropout": "replicated", "llama muon again": "sharded"}
"""Of these runs, with 4 and 2 processes in this form: 4 begin, 2 go on, one ends."""

OPTIONS = Options(min_heads=1, min_width=1, min_rank=1, multiple_of=1)
PLAN = Plan(
    sparsities=(0.3, 0.6),
    steps=3,
    fine_tune_tokens=600,
    statistics_tokens=500,
    options=OPTIONS,
    fine_tuning=FineTuning(128, precision="fp32", optimizer=ADAMW),
)
PLANS = {
    "masks": replace(PLAN, criterion="movement", method="unstructured"),
    "units": replace(
        PLAN,
        method="structured",
        options=replace(OPTIONS, embedding_sparsity=0.4, positions_sparsity=0.6),
        fine_tuning=replace(PLAN.fine_tuning, distill_hidden=0.5),
    ),
    "ranks": replace(PLAN, method="low-rank", options=replace(OPTIONS, embedding_rank=4)),
    "elastic": replace(PLAN, method="low-rank", schedule="elastic"),
    "noise": replace(PLAN, criterion="random", method="2:4", sparsities=(0.5,)),
}


class CutOff(Exception):
    """Stands for the end of every process."""


def cut(owner: Any, name: str, when: Callable[[Any], bool]) -> Any:
    """Cut the run off where ``when(self)`` is true at the start of a step; gives the real step."""
    real = getattr(owner, name)

    def step(self: Any, *given: Any) -> Any:
        if when(self):
            raise CutOff
        return real(self, *given)

    setattr(owner, name, step)
    return real


def one_training(
    data: Corpus,
    config: TrainingConfig,
    out: Path,
    group: ProcessGroup,
    until: Optional[int],
    init: Optional[Path] = None,
) -> None:
    real = cut(TrainingLoop, "step", lambda loop: loop.steps == until)
    try:
        train(data, config, out, None if init is None else load_checkpoint(init), group)
    except CutOff:
        assert until is not None
    finally:
        TrainingLoop.step = real  # type: ignore[method-assign]


def one_family(
    parent: Path,
    data: Corpus,
    plan: Plan,
    out: Path,
    group: ProcessGroup,
    until: Optional[int],
    of: Any = PruningRun,
) -> None:
    """Cut off behind ``until`` pruning steps, or optimiser steps (``of`` TrainingLoop)."""
    steps = 0

    def reached(run: Any) -> bool:
        nonlocal steps
        steps += 1
        return steps - 1 == until

    real = cut(of, "step", reached)
    streams = PruningData(data.stream("train"), data.stream("valid"))
    try:
        prune_family(load_checkpoint(parent), streams, plan, out, {}, {}, group=group)
    except CutOff:
        assert until is not None
    finally:
        of.step = real


def all_runs(folder: Path, group: ProcessGroup) -> None:
    """All runs with as many processes as there are, and the part of the others that is theirs."""
    muon.choose_precision = lambda *given: "fp32"  # where the rest is fp32: small differences
    data, own = open_corpus(folder / "data"), folder / str(group.world)
    kind = "sharded" if group.world == 2 else "replicated"
    for name, config in TRAININGS.items():
        one_training(data, replace(config, parallel=kind), own / kind / name, group, None)
    config = replace(CONFIG, model=ModelConfig(), parallel=kind)
    one_training(data, config, own / kind / "masked", group, None, folder / "masked")
    for name, plan in PLANS.items():
        if group.world != 4:
            one_family(folder / "parent", data, plan, own / name, group, None)
    one_family(
        folder / "parent",
        data,
        PLANS["units"],
        folder / "units",
        group,
        {4: 1, 2: 1}.get(group.world),
    )
    until = {4: 3, 2: 1}.get(group.world)
    parent, plan = folder / "parent", PLANS["masks"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuning, "SAVE_S", 0.0)
        patch.setattr(fine_tuning, "LOOK_STEPS", 1)
        one_family(parent, data, plan, folder / "masks", group, until, TrainingLoop)
    if group.world == 4 and group.is_first:
        shutil.copy(folder / "masks.pruning" / STATE, folder / "killed.pt")
    for name, kind in KILLED.items():
        until = {4: 3, 2: 5}.get(group.world)
        one_training(data, replace(TRAININGS[name], parallel=kind), folder / name, group, until)


def a_process_dies(folder: Path, group: ProcessGroup) -> None:
    """The last of the processes is killed in its fourth step."""

    def when(loop: Any) -> bool:
        if loop.steps == 3 and group.rank == group.world - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    cut(TrainingLoop, "step", when)
    train(open_corpus(folder / "data"), TRAININGS["gpt2 adamw"], folder / "died", group=group)


def one_process(folder: Path, dies: bool) -> None:
    """What each process of a launch does."""
    try:
        with process_group("cpu") as group:
            all_runs(folder, group)
            if dies:
                a_process_dies(folder, group)
    except ConnectionError as problem:
        sys.exit(f"told: {problem}")


def bad_input(folder: Path) -> None:
    """What the command does in each process where there are no data."""
    sys.exit(main(["train", "--data", "none", "--device", "cpu", "--out", str(folder / "lm")]))


def launched(world: int, function: Callable[..., None], *given: Any) -> None:
    """``world`` processes as torchrun starts them, but forked: torch is imported once for all. Some
    of them may fail."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=world,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=function.__name__,
        max_restarts=0,
        monitor_interval=2.0,  # a process that died is noticed by the others first
        start_method="fork",
    )
    with contextlib.suppress(ChildFailedError):
        elastic_launch(config, function)(*given)


if __name__ == "__main__":
    AdamW([torch.nn.Parameter(torch.zeros(1))])  # imports what the first optimiser does
    place = Path(sys.argv[1])
    launched(4, one_process, place, True)
    launched(2, one_process, place, False)
    launched(2, bad_input, place)
