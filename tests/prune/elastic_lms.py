"""What the tests of elastic LMs share: text, checkpoints, and damaged ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asrprune.api.example import SENTENCES, tiny_lm
from asrprune.lm.model.checkpoint import Checkpoint
from asrprune.lm.model.elastic import Elastic
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.run.scorer import PruningData
from asrprune.text.corpus import TokenStream


def text() -> PruningData:
    stream = TokenStream.from_sentences(tiny_lm().tokenizer().encode_batch(SENTENCES))
    return PruningData(stream, stream)


def of(checkpoint: Checkpoint) -> dict[str, Any]:
    """What saves it again."""
    return {
        "model": checkpoint.model,
        "tokenizer": checkpoint.tokenizer_path,
        "provenance": {},
        "elastic": checkpoint.elastic,
    }


def elastic_of(checkpoint: Checkpoint) -> Elastic:
    assert checkpoint.elastic is not None
    return checkpoint.elastic


def logits(model: TransformerLM) -> Tensor:
    with torch.no_grad():
        return model.logits(model(torch.arange(2, 22).view(2, 10))[0])


def stated(folder: Path, key: str) -> Any:
    """What the config of an elastic checkpoint says under ``key``."""
    return json.loads((folder / "config.json").read_text())["elastic"][key]


def damaged(folder: Path, copy: Path, key: str, value: Any) -> Path:
    """A copy of an elastic checkpoint whose config says ``value``."""
    shutil.copytree(folder, copy)
    path = copy / "config.json"
    config = json.loads(path.read_text())
    del config["crc32"]
    config["elastic"][key] = value
    path.write_text(json.dumps(config))
    return copy
