"""A model on disk: a folder with ``config.json``, ``model.safetensors`` and the tokeniser.

It rebuilds without flags. A matrix with many zeros is stored as a bit mask and its non-zero
values, whenever that is smaller; reading it back gives the same numbers bit for bit.

``config.json`` ends with its own checksum and states the SHA-256 of the other two files; all are
checked when the model is loaded. A config without them is one of an earlier version, or was edited,
and is read without; it states that of the tokeniser only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from asrprune.core.checksums import read_sealed, write_sealed
from asrprune.errors import InputError
from asrprune.files import PathLike, sha256, write_folder
from asrprune.lm.model.architecture import ARCHITECTURES, check_shape
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM, count_nonzero, count_parameters
from asrprune.text.form import TextForm, TextOptions
from asrprune.text.tokenizer import Tokenizer

FORMAT_VERSION = 1
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.model"
_MASK, _VALUES = ".sparse_mask", ".sparse_values"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model with what its folder says about it.

    ``provenance`` tells how the model came to be (command, commit, seed, versions, parent);
    ``history`` lists its pruning steps, oldest first. ``form`` is the text form that the LM wants;
    None where the folder does not say.
    """

    model: TransformerLM
    tokenizer_path: Path
    tokenizer_sha256: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()
    path: Optional[Path] = None
    form: Optional[TextForm] = None

    def tokenizer(self, options: Optional[TextOptions] = None) -> Tokenizer:
        """The tokeniser that the model was trained with, in the text form that the LM wants, or
        the one that ``options`` say."""
        return Tokenizer(self.tokenizer_path, self.form, options)

    def size_bytes(self) -> int:
        """Bytes of the saved weights file; 0 for a model that is not on disk."""
        return 0 if self.path is None else (self.path / WEIGHTS).stat().st_size


def save_checkpoint(
    out: PathLike,
    model: TransformerLM,
    tokenizer: PathLike,
    provenance: Mapping[str, Any],
    history: tuple[Mapping[str, Any], ...] = (),
    form: Optional[TextForm] = None,
) -> Path:
    """Write the folder ``out``, whole or not at all, and return its path."""
    with write_folder(out) as folder:
        shutil.copyfile(tokenizer, folder / TOKENIZER)
        state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
        save_file(_pack(state), folder / WEIGHTS)
        write_sealed(
            folder / CONFIG,
            {
                "format": "asrprune-lm",
                "version": FORMAT_VERSION,
                "architecture": model.shape.architecture,
                "shape": model.shape.to_dict(),
                "parameters": count_parameters(model),
                "nonzero_parameters": count_nonzero(model),
                "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
                "weights_sha256": sha256(folder / WEIGHTS),
                "tokenizer_sha256": sha256(folder / TOKENIZER),
                "text": None if form is None else form.to_dict(),
                "provenance": dict(provenance),
                "history": [dict(step) for step in history],
            },
        )
    return Path(out)


def load_checkpoint(path: PathLike, device: str = "cpu") -> Checkpoint:
    """The model in folder ``path``, in evaluation mode on ``device``.

    Raises InputError for a folder that is not a checkpoint, weights that do not fit the stated
    shape, a tokeniser that is not the one that the model was trained with, and files that are no
    longer what was written.
    """
    folder = Path(path)
    config = check_checkpoint(folder)
    name = config.get("architecture", "gpt2")
    if name not in ARCHITECTURES:
        found = f"architecture {name!r}"
        raise InputError(folder / CONFIG, None, found, f"one of {', '.join(ARCHITECTURES)}")
    try:
        shape = ModelShape.from_dict({"architecture": name, **config["shape"]})
        check_shape(shape)
    except (KeyError, TypeError, ValueError) as problem:
        raise InputError(folder / CONFIG, None, f"bad shape ({problem!r})", "a shape") from None
    model = TransformerLM(shape)
    _load_weights(model, folder / WEIGHTS)
    return Checkpoint(
        model=model.to(device).eval(),
        tokenizer_path=folder / TOKENIZER,
        tokenizer_sha256=config["tokenizer_sha256"],
        provenance=config["provenance"],
        history=tuple(config["history"]),
        path=folder,
        form=_stated_form(folder / CONFIG, config),
    )


def _stated_form(path: Path, config: Mapping[str, Any]) -> Optional[TextForm]:
    """The text form; checkpoints of earlier versions tell the normaliser of their training."""
    stated = config.get("text")
    if stated is None:
        name = config["provenance"].get("training", {}).get("normaliser", "none")
        stated = None if name == "none" else {"normaliser": name}
    try:
        return None if stated is None else TextForm.from_dict(stated)
    except (TypeError, ValueError) as problem:
        raise InputError(path, None, f"bad text form ({problem})", "a text form") from None


def check_checkpoint(folder: PathLike) -> dict[str, Any]:
    """``read_config``, after the other files were compared with the hashes that it states.

    Raises InputError also for a tokeniser or weights of another hash.
    """
    config = read_config(folder)
    tokenizer, weights = Path(folder) / TOKENIZER, Path(folder) / WEIGHTS
    digest = sha256(tokenizer) if tokenizer.is_file() else "no file"
    expected = config["tokenizer_sha256"]
    if digest != expected:
        found = f"tokenizer hash {digest[:12]}"
        raise InputError(tokenizer, None, found, f"{expected[:12]}, as in training")
    if not weights.is_file():
        raise InputError(weights, None, "no such file", "the model's weights")
    expected = config.get("weights_sha256")
    if expected is not None and sha256(weights) != expected:
        found = f"weights hash {sha256(weights)[:12]}"
        raise InputError(weights, None, found, f"{expected[:12]}, as in {CONFIG}")
    return config


def read_config(folder: PathLike) -> dict[str, Any]:
    """What the ``config.json`` of a checkpoint says.

    Raises InputError for a folder that is no checkpoint and a file that is no longer what was
    written.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        found = "no config.json" if os.path.isdir(folder) else "no such folder"
        raise InputError(folder, None, found, "a checkpoint folder of asrprune")
    config = read_sealed(path)
    if not isinstance(config, dict) or config.get("format") != "asrprune-lm":
        raise InputError(path, None, "not a checkpoint", '"format": "asrprune-lm"')
    if config.get("version") != FORMAT_VERSION:
        found = f"version {config.get('version')}"
        raise InputError(path, None, found, f"version {FORMAT_VERSION}")
    return config


def weights_digest(folder: PathLike) -> str:
    """The SHA-256 of a checkpoint's weights: as its config states it, which loading checks."""
    stated = read_config(folder).get("weights_sha256")
    return sha256(Path(folder) / WEIGHTS) if stated is None else str(stated)


def is_checkpoint(path: PathLike) -> bool:
    """Whether ``path`` is a folder that holds a checkpoint's config."""
    return os.path.isfile(os.path.join(path, CONFIG))


def _load_weights(model: TransformerLM, path: Path) -> None:
    try:
        state = _unpack(load_file(path))
        model.load_state_dict(state)
    except (SafetensorError, RuntimeError, KeyError) as problem:
        found = f"weights that do not load ({problem})"
        raise InputError(path, None, found, "tensors of the shape in config.json") from None


def _pack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as stored: those with enough zeros become a bit mask and their other values.

    The zero test is on bits, so that -0.0 survives.
    """
    packed: dict[str, Tensor] = {}
    for name, value in state.items():
        value = value.contiguous()
        size = value.element_size()
        bits = value.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[size]).flatten()
        kept = bits != 0
        if value.numel() // 8 + int(kept.sum()) * size < 0.95 * value.numel() * size:
            mask = torch.from_numpy(np.packbits(kept.numpy()))
            packed[name + _MASK] = mask
            packed[name + _VALUES] = value.flatten()[kept]
            packed[name + ".sparse_shape"] = torch.tensor(value.shape, dtype=torch.int64)
        else:
            packed[name] = value.clone()
    return packed


def _unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name, value in packed.items():
        if name.endswith(_MASK):
            base = name.removesuffix(_MASK)
            shape = packed[base + ".sparse_shape"].tolist()
            values = packed[base + _VALUES]
            count = int(np.prod(shape))
            kept = torch.from_numpy(np.unpackbits(value.numpy(), count=count)).bool()
            whole = torch.zeros(count, dtype=values.dtype)
            whole[kept] = values
            state[base] = whole.view(shape)
        elif not name.endswith((_VALUES, ".sparse_shape")):
            state[name] = value
    return state
