"""The commands of the guides are run, one after the other, on a little data."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from asrprune.cli.main import main
from tests.exchange.pruned_shapes import SENTENCES, save_transducer_lm

GUIDE = Path(__file__).parents[2] / "asrprune/exchange/README.md"
SMALL = "--set model.d_model=8 --set model.n_layers=1 --set model.n_heads=2 --set max_steps=1"
SMALL += " --set tokens_per_batch=300 --set model.max_positions=32"


def _sections() -> dict[str, list[str]]:
    """Partner -> its commands."""
    parts = re.split(r"^## (.+)$", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = {}
    for title, text in zip(parts[::2], parts[1::2]):
        block = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
        found[title] = [line for line in block.splitlines() if line.startswith("asrprune export")]
        if "train" in block:
            found[title] = [line for line in block.splitlines() if line.startswith("asrprune ")]
    return {title: lines for title, lines in found.items() if lines}


@pytest.mark.parametrize(
    "partner",
    [
        pytest.param(
            one, marks=pytest.mark.slow if one.startswith(("torch", "Hugging", "GGUF")) else ()
        )
        for one in _sections()
    ],
)
def test_the_commands_of_a_guide_run(partner, tmp_path, monkeypatch):
    needed = {"Hugging Face": "transformers", "GGUF": "xllamacpp"}
    pytest.importorskip(needed.get(partner.partition(":")[0], "onnxruntime"))
    monkeypatch.chdir(tmp_path)
    save_transducer_lm(tmp_path)
    (tmp_path / "lm-text.txt").write_text("".join(f"{one}\n" for one in SENTENCES * 4))
    lines = _sections()[partner]
    if not any(" train " in line for line in lines):
        (tmp_path / "exp").mkdir()
        (tmp_path / "lm").rename(tmp_path / "exp/lm")
    for line in lines:
        words = shlex.split(line)[1:]
        if words[0] == "train":
            words += shlex.split(SMALL)
        assert main(words) == 0, line
        out = Path(words[words.index("--out") + 1])
        assert out.exists()
