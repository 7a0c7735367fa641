"""A model on disk: a folder with ``config.json``, ``model.safetensors`` and the tokeniser.

It rebuilds without flags. A matrix with many zeros is stored as a bit mask and its non-zero
values, whenever that is smaller (sparse_tensors.py).

``config.json`` ends with its own checksum and states the SHA-256 of the other two files; all are
checked when the model is loaded. A config without them is one of an earlier version, or was edited,
and is read without; it states that of the tokeniser only.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, Union

import torch
from torch import Tensor

from asrprune.core.checksums import write_sealed
from asrprune.core.record import (
    Record,
    a,
    a_count,
    a_string,
    a_truth,
    an_object,
    an_object_of,
    one_of,
    read_record,
)
from asrprune.errors import InputError
from asrprune.files import PathLike, sha256, write_folder
from asrprune.lm.model.architecture import ARCHITECTURES, check_shape
from asrprune.lm.model.elastic import Elastic, Size
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.sparse_tensors import is_part, pack, sparse_name, unpacked
from asrprune.lm.model.transformer import TransformerLM, count_nonzero, count_parameters
from asrprune.lm.model.weights_file import StoredTensors, write_tensors
from asrprune.lm.model.weights_fit import check_fit
from asrprune.text.form import TextForm, TextOptions
from asrprune.text.tokenizer import TOKENIZER_NAMES, Tokenizer, tokenizer_in, tokenizer_name

FORMAT_VERSION = 1
STORED = {
    **{"float32": torch.float32, "bfloat16": torch.bfloat16},
    **{"float16": torch.float16, "float64": torch.float64},
}
"""Number formats of stored weights."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model with what its folder says about it.

    ``provenance`` tells how the model came to be (command, commit, seed, versions, parent);
    ``history`` lists its pruning steps, oldest first. ``form`` is the text form that the LM wants;
    None where the folder does not say. ``stored`` is the number format of the weights on disk.
    ``elastic``: the smaller LMs that it holds; None: none. ``left_out``: bytes of the weights file
    that are of components which a cut left out.
    """

    model: TransformerLM
    tokenizer_path: Path
    tokenizer_sha256: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()
    path: Optional[Path] = None
    form: Optional[TextForm] = None
    stored: torch.dtype = torch.float32
    elastic: Optional[Elastic] = None
    left_out: int = 0

    def tokenizer(self, options: Optional[TextOptions] = None) -> Tokenizer:
        """The tokeniser that the model was trained with, in the text form that the LM wants, or
        the one that ``options`` say."""
        return Tokenizer(self.tokenizer_path, self.form, options)

    def size_bytes(self) -> int:
        """Bytes of the saved weights file; 0 for a model that is not on disk."""
        return 0 if self.path is None else (self.path / WEIGHTS).stat().st_size - self.left_out

    def cut(self, size: Size) -> Checkpoint:
        """An elastic LM cut to ``size``, an ordinary one with weights of its own; see ``Elastic``.

        Raises InputError for a checkpoint on disk that is not elastic, ValueError for one in
        memory, and for a size outside its range.
        """
        elastic = self.elastic
        if elastic is None:
            raise _not_elastic(self.path)
        number = self.stored.itemsize
        whole = self.size_bytes() or count_parameters(self.model) * number
        steps = elastic.steps_to(size, whole, number)
        model = copy.deepcopy(self.model)
        elastic.cut(model, steps)
        now = {"asked": elastic.sparsity(steps), "measured": elastic.sparsity(steps)}
        return replace(
            self,
            model=model.eval(),
            history=(*self.history[:-1], *({**step, **now} for step in self.history[-1:])),
            elastic=None,
            left_out=elastic.saved_bytes(steps, number),
        )


def save_checkpoint(
    out: PathLike,
    model: TransformerLM,
    tokenizer: Union[PathLike, bytes],
    provenance: Mapping[str, Any],
    history: tuple[Mapping[str, Any], ...] = (),
    form: Optional[TextForm] = None,
    dtype: Optional[torch.dtype] = None,
    elastic: Optional[Elastic] = None,
) -> Path:
    """Write the folder ``out``, whole or not at all, and return its path.

    ``tokenizer`` is the tokeniser's file, or what that of an imported LM is to hold. ``dtype``: the
    number format of the stored weights, None: that of the model. ``elastic``: the smaller LMs that
    the model holds. Raises ValueError when it does not fit the model.
    """
    if elastic is not None:
        elastic.check(model)
    with write_folder(out) as folder:
        if isinstance(tokenizer, bytes):
            pieces = folder / TOKENIZER_NAMES[1]
            pieces.write_bytes(tokenizer)
        else:
            pieces = folder / tokenizer_name(tokenizer)
            shutil.copyfile(tokenizer, pieces)
        dtype = model.dtype if dtype is None else dtype
        state = {
            name: value.detach().cpu().to(dtype) if value.is_floating_point() else value.cpu()
            for name, value in model.state_dict().items()
        }
        write_tensors(folder / WEIGHTS, pack(state))
        write_sealed(
            folder / CONFIG,
            {
                "format": "asrprune-lm",
                "version": FORMAT_VERSION,
                "architecture": model.shape.architecture,
                "shape": model.shape.to_dict(),
                "parameters": count_parameters(model),
                "nonzero_parameters": count_nonzero(model),
                "dtype": str(dtype).removeprefix("torch."),
                "weights_sha256": sha256(folder / WEIGHTS),
                "tokenizer_sha256": sha256(pieces),
                "text": None if form is None else form.to_dict(),
                "provenance": dict(provenance),
                "history": [dict(step) for step in history],
                **({} if elastic is None else {"elastic": asdict(elastic)}),
            },
        )
    return Path(out)


def load_checkpoint(
    path: PathLike,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    mapped: bool = False,
    size: Optional[Size] = None,
) -> Checkpoint:
    """The model in folder ``path``, in evaluation mode on ``device``, in the number format
    ``dtype``. ``mapped``: on the CPU, weights that are stored in it are the file's own memory where
    StoredTensors can do so, for those who only read them. ``size``: that of an elastic checkpoint
    to cut it to.

    Raises InputError for a folder that is not a checkpoint, weights that do not fit the stated
    shape, a tokeniser that is not the one that the model was trained with, and files that are no
    longer what was written. As ``Checkpoint.cut`` does for a ``size``.
    """
    folder = Path(path)
    config = check_checkpoint(folder)
    form = _stated_form(config)
    history = _history(config)
    name = config.find("architecture", one_of(*ARCHITECTURES)) or "gpt2"
    try:
        shape = ModelShape.from_dict({"architecture": name, **config.get("shape", an_object)})
        check_shape(shape)
    except ValueError as problem:
        raise InputError(folder / CONFIG, None, f"bad shape ({problem})", "a shape") from None
    check_fit(folder / WEIGHTS, shape)
    with torch.device("meta"):
        model = TransformerLM(shape)
    elastic = _elastic(config)
    if elastic is not None:
        try:
            elastic.check(model)
        except ValueError as problem:
            found, expected = f"bad elastic ({problem})", "that of these matrices"
            raise InputError(folder / CONFIG, None, found, expected) from None
    _load_weights(model, folder / WEIGHTS, dtype, mapped)
    whole = Checkpoint(
        model=model.to(device).eval(),
        tokenizer_path=tokenizer_in(folder),
        tokenizer_sha256=config.get("tokenizer_sha256", a_string),
        provenance=config.get("provenance", an_object),
        history=history,
        path=folder,
        form=form,
        stored=_stored(config),
        elastic=elastic,
    )
    return whole if size is None else whole.cut(size)


def cut_steps(path: PathLike, size: Size) -> int:
    """How many steps of ``Elastic`` the cut of the checkpoint in folder ``path`` to ``size`` takes.

    Raises as ``Checkpoint.cut`` does.
    """
    whole = (Path(path) / WEIGHTS).stat().st_size
    return elastic_of(path).steps_to(size, whole, _stored(read_config(path)).itemsize)


def elastic_of(path: PathLike) -> Elastic:
    """The smaller LMs that the checkpoint in folder ``path`` holds. Raises InputError where it is
    of one size."""
    elastic = _elastic(read_config(path))
    if elastic is None:
        raise _not_elastic(path)
    return elastic


def _elastic(config: Record) -> Optional[Elastic]:
    return config.find("elastic", a(Elastic))


def _stored(config: Record) -> torch.dtype:
    return STORED[config.find("dtype", one_of(*STORED)) or "float32"]


def _not_elastic(path: Optional[PathLike]) -> Exception:
    found = "an LM of one size"
    expected = "an elastic one (asrprune prune --schedule elastic) to be cut to another"
    if path is None:
        return ValueError(f"{found}; expected {expected}")
    return InputError(path, None, found, expected)


def _history(config: Record) -> tuple[Mapping[str, Any], ...]:
    """The pruning steps; what later ones are counted from has its type."""
    steps = config.parts("history")
    for step in steps:
        step.find("reference", an_object_of(a_count))
        step.find("masks", a_truth)
    return tuple(step.values for step in steps)


def _stated_form(config: Record) -> Optional[TextForm]:
    """The text form; checkpoints of earlier versions tell the normaliser of their training."""
    if config.find("text", an_object) is not None:
        return config.get("text", a(TextForm))
    training = config.part("provenance").find("training", an_object) or {}
    name = training.get("normaliser", "none")
    if name == "none":
        return None
    return Record(config.path, {"text": {"normaliser": name}}).get("text", a(TextForm))


def check_checkpoint(folder: PathLike) -> Record:
    """``read_config``, after the other files were compared with the hashes that it states.

    Raises InputError also for a tokeniser or weights of another hash.
    """
    config = read_config(folder)
    tokenizer, weights = tokenizer_in(folder), Path(folder) / WEIGHTS
    digest = sha256(tokenizer) if tokenizer.is_file() else "no file"
    stated = config.get("tokenizer_sha256", a_string)
    if digest != stated:
        found = f"tokenizer hash {digest[:12]}"
        raise InputError(tokenizer, None, found, f"{stated[:12]}, as in training")
    if not weights.is_file():
        raise InputError(weights, None, "no such file", "the model's weights")
    expected = config.find("weights_sha256", a_string)
    if expected is not None and sha256(weights) != expected:
        found = f"weights hash {sha256(weights)[:12]}"
        raise InputError(weights, None, found, f"{expected[:12]}, as in {CONFIG}")
    return config


def read_config(folder: PathLike) -> Record:
    """What the ``config.json`` of a checkpoint says.

    Raises InputError for a folder that is no checkpoint and a file that is no longer what was
    written.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        found = "no config.json" if os.path.isdir(folder) else "no such folder"
        raise InputError(folder, None, found, "a checkpoint folder of asrprune")
    return read_record(path).check_format("asrprune-lm", FORMAT_VERSION, "a checkpoint")


def weights_digest(folder: PathLike) -> str:
    """The SHA-256 of a checkpoint's weights: as its config states it, which loading checks."""
    stated = read_config(folder).find("weights_sha256", a_string)
    return sha256(Path(folder) / WEIGHTS) if stated is None else stated


def check_replaceable(path: PathLike) -> None:
    """Raise InputError when ``path`` is a folder that holds anything but one checkpoint."""
    held = sorted(os.listdir(path)) if os.path.isdir(path) else []
    others = [name for name in held if name not in (CONFIG, WEIGHTS, *TOKENIZER_NAMES)]
    if others:
        expected = "a new folder, or one that holds a checkpoint alone, to be replaced"
        raise InputError(path, None, f"a folder with {others[0]} in it", expected)
    if held:
        read_config(path)


def is_checkpoint(path: PathLike) -> bool:
    """Whether ``path`` is a folder that holds a checkpoint's config."""
    return os.path.isfile(os.path.join(path, CONFIG))


def _load_weights(model: TransformerLM, path: Path, dtype: torch.dtype, mapped: bool) -> None:
    state: dict[str, Tensor] = {}
    try:
        with open(path, "rb") as stream:
            stored = StoredTensors(stream, mapped)
            for name in stored.names:
                if is_part(name):
                    continue
                base = sparse_name(name)
                value = stored.read(name) if base is None else unpacked(stored, name)
                state[base or name] = value.to(dtype) if value.is_floating_point() else value
        model.load_state_dict(state, assign=True)
    except (RuntimeError, IndexError, ValueError) as problem:
        found = f"weights that do not load ({problem})"
        raise InputError(path, None, found, "tensors of the shape in config.json") from None
    for place, linear in model.linears():
        order = linear.arrangement
        if order is not None and not torch.equal(
            order.sort().values, torch.arange(len(order), device="cpu")
        ):
            found = f"the outputs of {place} in an order with gaps"
            raise InputError(path, None, found, "each output once")
