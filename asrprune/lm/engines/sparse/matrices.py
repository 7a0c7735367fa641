"""Matrices of which only the non-zero blocks are stored and multiplied, where that is faster.

A masked checkpoint is a dense model with zeros: the same numbers, no time saved. Here each of its
matrices is packed in blocks of 1 or 4 outputs by one input (4 is what pruning method block-4x1
leaves) and multiplied by kernel.cpp, if its share of non-zero blocks is below what was
measured to be worth it; the others stay with torch. The sums are in another order than torch's, so
results differ by rounding in float32.
"""

from __future__ import annotations

import copy
import ctypes
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asrprune.lm.engines.native import load_library
from asrprune.lm.model.matrices import DenseLinear
from asrprune.lm.model.transformer import TransformerLM

KERNEL = Path(__file__).with_name("kernel.cpp")

CHUNK = 256
"""Inputs whose part of a tile of tokens stays in the first-level cache."""

BREAK_EVEN: Mapping[int, Mapping[int, float]] = {
    16: {1: 0.48, 4: 0.85},
    8: {1: 0.55, 4: 0.75},
    4: {1: 0.15, 4: 0.30},
}
"""Floats in a vector -> height of a block -> share of non-zero blocks where dense is as fast.

8 (AVX2): measured by tests/bench/sparse.py, rounded down; 16 (AVX-512): ENGINES.md; 4: a guess on
the safe side.
"""


@dataclass(frozen=True)
class PackedMatrix:
    """The non-zero blocks of W [outputs, inputs]: ``height`` outputs (1 or 4) by one input.

    Groups are ``height`` outputs, the last one filled up with zeros; the inputs are cut into
    chunks. ``starts`` [chunks * groups + 1] is the first block of each group in each chunk,
    ``columns`` [blocks] counts inputs from the start of the chunk, ``values`` [blocks, height].
    """

    outputs: int
    inputs: int
    height: int
    chunk: int
    starts: NDArray[np.int32]
    columns: NDArray[np.uint16]
    values: NDArray[np.float32]


def pack_matrix(weight: Tensor, height: int, chunk: int = CHUNK) -> PackedMatrix:
    """W [outputs, inputs] without its zero blocks. Raises ValueError for another height or chunk.

    >>> packed = pack_matrix(torch.tensor([[0.0, 2.0], [3.0, 0.0]]), height=1)
    >>> packed.starts.tolist(), packed.columns.tolist(), packed.values.tolist()
    ([0, 1, 2], [1, 0], [[2.0], [3.0]])
    """
    if height not in (1, 4):
        raise ValueError(f"height is {height}; expected 1 or 4")
    if not 1 <= chunk <= 2**16:
        raise ValueError(f"chunk is {chunk}; expected 1 to {2**16}")
    blocks = _blocks(weight, height)  # [groups, height, inputs]
    kept = np.any(blocks != 0, axis=1)  # [groups, inputs]
    counts, columns, values = [np.zeros(1, np.int64)], [], []
    for start in range(0, kept.shape[1], chunk):
        here = kept[:, start : start + chunk]
        counts.append(here.sum(axis=1))
        groups, inside = np.nonzero(here)
        columns.append(inside)
        values.append(blocks[groups, :, start + inside])
    return PackedMatrix(
        outputs=weight.shape[0],
        inputs=weight.shape[1],
        height=height,
        chunk=chunk,
        starts=np.cumsum(np.concatenate(counts)).astype(np.int32),
        columns=np.concatenate(columns).astype(np.uint16),
        values=np.ascontiguousarray(np.concatenate(values), np.float32),
    )


def block_density(weight: Tensor, height: int) -> float:
    """The share of blocks of W [outputs, inputs] that hold a non-zero; 0 where there is none."""
    kept = _blocks(weight, height).any(axis=1)
    return float(kept.mean()) if kept.size else 0.0


def _blocks(weight: Tensor, height: int) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = weight.detach().cpu().float().numpy()
    rows = np.pad(rows, ((0, -len(rows) % height), (0, 0)))
    return rows.reshape(-1, height, weight.shape[1])


@functools.lru_cache(maxsize=1)
def load_kernel() -> Optional[ctypes.CDLL]:
    """The library with its functions declared; None, with one line in the log, without one."""
    library = load_library(KERNEL, "torch multiplies by the zeros too")
    if library is not None:
        library.asrprune_sparse_linear.argtypes = _arguments()
        library.asrprune_sparse_linear.restype = ctypes.c_int
        library.asrprune_sparse_lanes.restype = ctypes.c_int
    return library


def _arguments() -> list[Any]:
    """x, tokens, inputs, bias, outputs, starts, columns, values, height, chunk, y, threads,
    parallel: see the kernel."""
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    tensors = [pointer, size, size, pointer, size, pointer, pointer, pointer]
    return [*tensors, size, size, pointer, size, pointer]


@functools.lru_cache(maxsize=1)
def openmp_parallel() -> Optional[int]:
    """Address of GOMP_parallel in the OpenMP runtime that torch has loaded; None if it is another.

    Threads of a runtime of its own would compete with torch's, which wait by spinning.
    """
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        function = getattr(ctypes.CDLL(str(path)), "GOMP_parallel", None)
        if function is not None:
            return ctypes.cast(function, ctypes.c_void_p).value
    return None


class SparseLinear(nn.Module):
    """``y = x W^T + b`` in float32 on the CPU by the kernel, with as many threads as torch has."""

    def __init__(self, packed: PackedMatrix, bias: Optional[Tensor]) -> None:
        super().__init__()
        self.packed = packed
        bias = torch.zeros(packed.outputs) if bias is None else bias
        self._bias = bias.detach().cpu().float().contiguous()

    def forward(self, x: Tensor) -> Tensor:
        kernel = load_kernel()
        assert kernel is not None, "no kernel: the matrix should have stayed dense"
        packed = self.packed
        rows = x.reshape(-1, packed.inputs).contiguous()
        out = torch.empty(len(rows), packed.outputs)
        failed = kernel.asrprune_sparse_linear(
            rows.data_ptr(),
            len(rows),
            packed.inputs,
            self._bias.data_ptr(),
            packed.outputs,
            packed.starts.ctypes.data,
            packed.columns.ctypes.data,
            packed.values.ctypes.data,
            packed.height,
            packed.chunk,
            out.data_ptr(),
            torch.get_num_threads(),
            openmp_parallel(),
        )
        if failed:
            raise MemoryError(f"no memory to multiply {tuple(rows.shape)} by a sparse matrix")
        return out.view(*x.shape[:-1], packed.outputs)


def best_height(weight: Tensor, limits: Mapping[int, float]) -> Optional[int]:
    """The height of block that is fastest for W, None where dense is.

    The time of a height goes with its density; ``limits`` are the densities where it takes as
    long as dense.
    """
    if weight.numel() == 0:
        return None
    cost = {height: block_density(weight, height) / limit for height, limit in limits.items()}
    height = min(cost, key=lambda height: (cost[height], -height))
    return height if cost[height] < 1.0 else None


def sparsified(
    model: TransformerLM, limits: Optional[Mapping[int, float]] = None
) -> tuple[TransformerLM, str]:
    """A copy of the model on the CPU with sparse matrices where they win, and what was chosen.

    ``limits`` as in BREAK_EVEN, by default those of this machine's vectors. Without a kernel every
    matrix stays as it is, and so do low-rank ones with one.
    """
    model = copy.deepcopy(model).float().cpu().eval()
    matrices = list(model.linears())
    kernel = load_kernel()
    if kernel is None:
        return model, f"0 of {len(matrices)} matrices sparse: no kernel"
    if limits is None:
        limits = BREAK_EVEN[int(kernel.asrprune_sparse_lanes())]
    chosen = dict.fromkeys(limits, 0)
    for place, linear in matrices:
        if not isinstance(linear, DenseLinear):
            continue
        height = best_height(linear.weight, limits)
        if height is None:
            continue
        chosen[height] += 1
        made = SparseLinear(pack_matrix(linear.weight, height), linear.bias)
        model.put(place, made)  # type: ignore[arg-type]  # it only multiplies from now on
    kinds = " and ".join(f"{count} in {height}x1" for height, count in chosen.items() if count)
    count = sum(chosen.values())
    return model, f"{count} of {len(matrices)} matrices sparse" + (f": {kinds}" if kinds else "")
