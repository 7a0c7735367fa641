"""The runs of one process again in two and in four, replicated and sharded, and gone on with.

    python tests/bench/distributed_parity.py --out exp/parity

Makes text of a small grammar, runs everything in this process, then starts itself through torchrun
with 4 and with 2 processes (gloo, a thread each). Prints, per run, the largest relative difference
from one process of the losses of all steps, of the gradient norms and of the valid set's
perplexities; the same of runs that 4 processes began, 2 went on with and one ended; and of families
the difference of the members' perplexities, and how many weights only one of both has removed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.lm.training.config import ModelConfig, TrainingConfig
from asrprune.lm.training.distributed import ProcessGroup, process_group
from asrprune.lm.training.optimizers import OptimizerConfig
from asrprune.prune.methods import Options
from asrprune.prune.run.family import read_family
from asrprune.prune.run.plan import FineTuning, Plan
from asrprune.text.corpus import open_corpus
from asrprune.text.pack import pack_corpus
from asrprune.text.sentencepiece import TokenizerConfig
from tests.lm.training.processes import one_family, one_training

GPT2 = ModelConfig(d_model=32, n_layers=2, n_heads=4, max_positions=96)
SHAPES = {"gpt2": GPT2, "llama": replace(GPT2, architecture="llama", kv_heads=2, tied=False)}
CONFIG = TrainingConfig(
    tokens_per_batch=512, max_steps=12, valid_steps=6, save_steps=2, log_steps=1
)
TRAININGS = {
    f"{shape}, {optimiser}, {precision}": replace(
        CONFIG,
        model=SHAPES[shape],
        precision=precision,
        optimizer=OptimizerConfig(optimiser, warmup_steps=3),
    )
    for shape, optimiser, precision in itertools.product(
        SHAPES, ("adamw", "muon"), ("fp32", "bf16")
    )
}
RESUMED = ("gpt2, muon, fp32", "llama, adamw, fp32")
PARALLEL = ("replicated", "sharded")
PLAN = Plan(
    sparsities=(0.3, 0.5),
    steps=3,
    fine_tune_tokens=5_000,
    statistics_tokens=5_000,
    fine_tuning=FineTuning(512, precision="fp32", optimizer=OptimizerConfig("adamw", lr=1e-3)),
    options=Options(multiple_of=4, min_heads=1, min_width=4, min_rank=4),
)
PLANS = {
    f"{method}, {criterion}": replace(PLAN, method=method, criterion=criterion)
    for method, criterion in (
        ("unstructured", "fisher"),
        ("2:4", "random"),
        ("structured", "kfac"),
        ("low-rank", "taylor"),
        ("width", "activation"),
    )
}
PLANS["unstructured, fisher, muon"] = replace(
    PLAN, method="unstructured", criterion="fisher", fine_tuning=FineTuning(512, precision="fp32")
)


def write_data(out: Path) -> None:
    draw = random.Random(0)
    parts = [["god", "man", "light"], ["made", "saw", "took"], ["earth", "sea", "day", "a"]]
    for name, count in (("train", 2000), ("valid", 100)):
        lines = (
            " ".join(draw.choice(one) for one in parts * draw.randint(1, 5)) for _ in range(count)
        )
        (out / f"{name}.txt").write_text("\n".join(lines) + "\n")
    tokens = TokenizerConfig(28, "bpe")
    pack_corpus([out / "train.txt"], out / "valid.txt", tokens, out / "data")


def trainings(out: Path, group: ProcessGroup) -> None:
    """Whole runs, and the part of the resumed ones that falls to so many processes."""
    data, own = open_corpus(out / "data"), out / str(group.world)
    for kind in PARALLEL if group.world > 1 else PARALLEL[:1]:
        for name, config in TRAININGS.items():
            one_training(data, replace(config, parallel=kind), own / kind / name, group, None)
    for kind, name in itertools.product(PARALLEL, RESUMED):
        config = replace(TRAININGS[name], parallel=kind)
        until = {4: 5, 2: 9}.get(group.world)
        one_training(data, config, out / "resumed" / kind / name, group, until)


def families(out: Path, group: ProcessGroup) -> None:
    data, parent = open_corpus(out / "data"), out / "parent"
    for name, plan in PLANS.items():
        one_family(parent, data, plan, out / str(group.world) / name, group, None)


def largest(pairs: Iterable[tuple[float, float]]) -> str:
    return f"{max(abs(a - b) / abs(b) for a, b in pairs):.1e}"


def compared(one: Path, other: Path) -> str:
    """Cells of two trainings."""
    logs = [
        [json.loads(line) for line in (p.parent / f"{p.name}.training/train.jsonl").open()]
        for p in (one, other)
    ]
    cells = []
    for key in ("loss", "gradient_norm", "valid_ppl_token"):
        cells.append(largest((a[key], b[key]) for a, b in zip(*logs) if key in a))
    return " | ".join(cells)


def compared_families(one: Path, other: Path) -> str:
    """Cells of two families."""
    mine, theirs = read_family(one).members, read_family(other).members
    perplexities = [
        (a.perplexity, b.perplexity) for a, b in zip(mine, theirs) if a.perplexity and b.perplexity
    ]
    differing = total = 0
    for a, b in zip(mine, theirs):
        total += sum(row.reference for row in b.matrices)
        differing += sum(abs(x.kept - y.kept) for x, y in zip(a.matrices, b.matrices))
        left, right = (load_checkpoint(p / b.folder).model.state_dict() for p in (one, other))
        for key, value in left.items():
            if key in right and right[key].shape == value.shape:
                differing += int(((value == 0) != (right[key] == 0)).sum())
    return f"{largest(perplexities)} | {differing:,} of {total:,}"


def report(out: Path) -> None:
    print("\n| run | processes | loss | gradient norm | perplexity |\n|---|---|---:|---:|---:|")
    for name, kind, world in itertools.product(TRAININGS, PARALLEL, (2, 4)):
        cells = compared(out / str(world) / kind / name, out / "1/replicated" / name)
        print(f"| {name} | {world}, {kind} | {cells} |")
    for name, kind in itertools.product(RESUMED, PARALLEL):
        cells = compared(out / "resumed" / kind / name, out / "1/replicated" / name)
        print(f"| {name} | 4 to 2 to 1, {kind} | {cells} |")
    print("\n| family | processes | perplexity | weights removed in one only |")
    print("|---|---:|---:|---:|")
    for name, world in itertools.product(PLANS, (2, 4)):
        cells = compared_families(out / str(world) / name, out / "1" / name)
        print(f"| {name} | {world} | {cells} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for all runs, a new one")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    if "RANK" in os.environ:
        with process_group("cpu") as group:
            trainings(out, group)
            families(out, group)
        return
    out.mkdir(parents=True)
    write_data(out)
    parent = TRAININGS["gpt2, adamw, fp32"]
    one_training(open_corpus(out / "data"), parent, out / "parent", ProcessGroup(), None)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    for world in (4, 2):
        command = [*launcher, f"--nproc-per-node={world}", __file__, "--out", str(out)]
        subprocess.run(command, check=True)
    trainings(out, ProcessGroup())
    families(out, ProcessGroup())
    report(out)


if __name__ == "__main__":
    main()
