"""A model whose weights, gradients and optimiser state are split over the processes (FSDP2).

Every parameter is a DTensor of which a process holds some rows; a block's are whole only while it
is computed. Files know nothing of it: they hold whole tensors, whatever the number of processes.
"""

from __future__ import annotations

import warnings
from typing import Any, Optional, Union

import torch
from torch import Tensor

from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.distributed import ProcessGroup


def shard(model: TransformerLM, group: ProcessGroup) -> None:
    """Split the parameters of ``model`` over the processes, in place, onto their devices.

    Raises ValueError where torch is too old for it.
    """
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        found = f"this is {torch.__version__}"
        raise ValueError(f"parallel is sharded, which needs torch 2.6 or later; {found}") from None
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(group.device.type, (group.world,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    # the rest stays whole until the backward pass is done: the loss reads the embedding, too
    fully_shard(model, mesh=mesh, reshard_after_forward=False)


def is_sharded(values: Union[Tensor, TransformerLM]) -> bool:
    """Whether this process holds a part only of a tensor, or of a model, some of whose parameters
    may be whole for now."""
    return hasattr(values, "full_tensor") or hasattr(values, "unshard")


def whole(tensor: Tensor) -> Tensor:
    """``tensor`` with all its rows; every process must ask for it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined, no-any-return]


def local(tensor: Tensor) -> Tensor:
    """The rows that this process holds: the same memory."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined, no-any-return]


def rows_for(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Of a whole tensor the rows that this process holds of ``parameter``, of the same shape."""
    if not is_sharded(parameter):
        return tensor
    mesh: Any = parameter.device_mesh  # type: ignore[attr-defined]
    parts = torch.chunk(tensor, mesh.size())  # as FSDP2 does
    rank = mesh.get_local_rank()
    return parts[rank] if rank < len(parts) else tensor[:0]


def split_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor split as ``parameter`` is, on its device; one of another shape as it is."""
    if not is_sharded(parameter) or tensor.shape != parameter.shape:
        return tensor
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        rows_for(tensor, parameter).clone(),
        parameter.device_mesh,  # type: ignore[attr-defined]
        parameter.placements,  # type: ignore[attr-defined]
        run_check=False,
        shape=tensor.shape,
        stride=tensor.stride(),
    )


def gathered(value: Any, group: ProcessGroup) -> Any:
    """``value``, nested dicts and lists, with whole tensors in the first process's main memory in
    the place of split ones; None there in the others. One tensor at a time is whole on a device."""
    if isinstance(value, Tensor):
        if not is_sharded(value):
            return value
        complete = whole(value)
        return complete.cpu() if group.is_first else None
    if isinstance(value, dict):
        return {key: gathered(one, group) for key, one in value.items()}
    if isinstance(value, list):
        return [gathered(one, group) for one in value]
    return value


def whole_model(model: TransformerLM, group: ProcessGroup) -> Optional[TransformerLM]:
    """The model as one process would have it, in the first one; None in the others.

    One that is not split is returned as it is. Every process must ask for it.
    """
    if not is_sharded(model):
        return model
    state = gathered(dict(model.state_dict()), group)
    if not group.is_first:
        return None
    with torch.device("meta"):
        made = TransformerLM(model.shape)
    made.load_state_dict(state, assign=True)
    return made
