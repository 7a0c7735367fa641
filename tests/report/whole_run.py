"""Run folders, a family and a training log from which a report gets every section."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asrprune.cli.main import main
from asrprune.lm.model.shapes import BlockShape, LinearShape, ModelShape

HOSTILE = '</dd><script>window.hit=1</script><img src="http://example.invalid/x" onerror="hit=2">'
REF = {
    "a-1": "the cat sat on the mat",
    "a-2": "hello there",
    "b-1": f"one {HOSTILE} two",
    "b-2": "it is late and we are going home now",
}
HYPS = {
    "first": {**REF, "a-1": "a cat sat on mat", "b-2": "it was late and we are go home now now"},
    "dense": {**REF, "b-2": "it is late and we are go home now"},
    "small": {**REF, "a-1": "the cat sat on the hat", "a-2": f"hello {HOSTILE}"},
}
SECTIONS = ("plots", "systems", "depth", "removed", "curves", "examples", "speakers", "lengths")
SECTIONS += ("origins", "weights", "made")
DENSE = ModelShape.uniform(16, 8, 2, 2)
SMALL = ModelShape(
    16, 8, 4, 256, (BlockShape(1, 8, {"attn.q": LinearShape("low_rank", 2)}), BlockShape(2, 32))
)
STEP = {"measured": 0.25, "fine_tune_tokens": 100, "losses": [[50, 3.5], [100, 3.25]]}


def matrices() -> list[dict[str, Any]]:
    """Those of the small LM: attn.q of rank 2, half of the neurons of block 0."""
    rows = []
    for block in range(2):
        for name, reference, kept, form in (
            ("attn.q", 64, 32 - 4 * block, "8 x 2 x 8"),
            ("ffn.up", 256, 64 if block == 0 else 256, "8 x 8"),
        ):
            row = {"matrix": f"{block}.{name}", "reference": reference, "kept": kept, "form": form}
            rows.append(row)
    return rows


def write_family(folder: Path) -> None:
    """A family of one member, sparsity-0.50."""
    member = {"asked": 0.5, "measured": 0.5, "folder": "sparsity-0.50", "parameters": 500}
    member |= {"nonzero_parameters": 400, "bytes": 2_000_000, "faster": True, "tokens": 200}
    member |= {"perplexity": 80.5, "perplexity_pruned": 99.0, "matrices": matrices()}
    parent = {"shape": DENSE.to_dict(), "bytes": 4_000_000, "parameters": 1000}
    parent |= {"nonzero_parameters": 900, "perplexity": 70.0}
    axes = {"method": "structured", "criterion": "kfac", "schedule": "cubic"}
    made = {"command": "asrprune prune --lm exp/dense", "time_utc": "2026-01-01", "data": "data"}
    family = {"format": "asrprune-family", "version": 1, "plan": {**axes, "fine_tune_tokens": 200}}
    family |= {"parent": parent, "members": [member], "provenance": made}
    write_lm(folder / "sparsity-0.50", SMALL, [STEP, {**STEP, "measured": 0.5}])
    (folder / "family.json").write_text(json.dumps(family))


def write_lm(folder: Path, shape: ModelShape, history: list[dict[str, Any]]) -> None:
    """What a report reads of a checkpoint."""
    folder.mkdir(parents=True)
    config = {"format": "asrprune-lm", "version": 1, "shape": shape.to_dict(), "history": history}
    config |= {"weights_sha256": "0123456789abcdef", "provenance": {"commit": "c0ffee"}}
    (folder / "config.json").write_text(json.dumps(config))


WORDS = (
    *("report", "--runs", "runs/first", "runs/oracle", "runs/dense", "runs/small", "--ref", "ref"),
    *("--baseline", "dense", "--lm", "dense=exp/dense", "small=exp/family/sparsity-0.50"),
    *("--utt2spk", "utt2spk", "--title", f"all {HOSTILE}", "--out", "out"),
)
"""A call that shows everything, in the folder of ``write_whole_run``."""


def make_report(base: Path) -> Path:
    """The page of everything in the empty folder ``base``."""
    write_whole_run(base)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        assert main(list(WORDS)) == 0
    return base / "out/index.html"


def write_whole_run(base: Path) -> None:
    """Everything, in ``base``."""
    for name, texts in HYPS.items():
        (base / "runs" / name).mkdir(parents=True)
        (base / "runs" / name / "hyp").write_text(kaldi(texts))
    (base / "ref").write_text(kaldi(REF))
    for name, size, ratios, more in (
        ("dense", 4_000_000, [2.0, 2.5], {"history": []}),
        ("small", 2_000_000, [8.0, 8.0], {"history": [{"method": "structured", **STEP}]}),
    ):
        bench = {"parameters": 9, "nonzero_parameters": 9, "size_bytes": size, "engine": "int8"}
        bench |= {"systems": [{"rtf": 0.5}], "threads": 1, "lm": name, "device": "cpu", **more}
        bench |= {"times_padded": {"lm": "dense", "ratios": ratios}, "machine": {"processor": "P"}}
        bench |= {"provenance": {"command": f"asrprune bench {HOSTILE}", "commit": "c0ffee"}}
        (base / "runs" / name / "bench.json").write_text(json.dumps(bench))
        weights = {"acoustic": 1.0, "first_lm": 0.5, "lm": [0.25], "word_bonus": 0.0}
        text = json.dumps({"weights": weights, "lms": [name], "provenance": {"commit": "beef"}})
        (base / "runs" / name / "weights.json").write_text(text)
        (base / "runs" / name / "perplexity.json").write_text(json.dumps({"ppl_word": size / 1e5}))
    (base / "runs/oracle").mkdir()
    depths = [{"depth": depth, "wer_percent": 9 - depth} for depth in (1, 2, 5)]
    depths[-1]["interval_percent"] = [1.0, 5.0]
    (base / "runs/oracle/oracle.json").write_text(json.dumps({"depths": depths}))
    write_lm_files(base, base / "ref")


def write_lm_files(base: Path, ref: Path) -> None:
    """A dense LM with the log of its training, a family, and the speakers of ``ref``."""
    write_lm(base / "exp/dense", DENSE, [])
    (base / "exp/dense.training").mkdir()
    log = [{"step": step, "tokens": 10 * step, "loss": 5 - step} for step in (1, 2, 3)]
    log += [{"step": step, "valid_ppl_token": 90 - step} for step in (1, 3)]
    lines = [*map(json.dumps, log), '{"step": 4, "tok']
    (base / "exp/dense.training/train.jsonl").write_text("\n".join(lines) + "\n")
    write_family(base / "exp/family")
    utts = [line.split()[0] for line in ref.read_text().splitlines()]
    (base / "utt2spk").write_text("".join(f"{utt} {utt.partition('-')[0]}\n" for utt in utts))


def kaldi(texts: dict[str, str]) -> str:
    """Lines of Kaldi's ``text``."""
    return "".join(f"{utt} {text}\n" for utt, text in texts.items())
