"""A checkpoint with drawn weights, far from uniform, and sentences that it can score."""

from __future__ import annotations

from pathlib import Path

import torch

from asrprune.lm.checkpoint import save_checkpoint
from asrprune.lm.shape import ModelShape
from asrprune.lm.transformer import TransformerLM
from asrprune.text.tokenizer import TokenizerConfig, train_tokenizer

SENTENCES = ("the cat sat", "the cat sits", "a cat sat", "the hat sat on the mat", "cats", "")


def save_small_lm(folder: Path) -> Path:
    """The checkpoint's folder, in ``folder``."""
    text = [*SENTENCES[:-1], "on a mat sits a hat"]
    (folder / "sp.model").write_bytes(train_tokenizer(text, TokenizerConfig(vocab_size=18)))
    torch.manual_seed(0)
    model = TransformerLM(ModelShape.uniform(18, 16, 1, 2, max_positions=40))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0)
    return Path(save_checkpoint(folder / "lm", model, folder / "sp.model", {"command": "none"}))
