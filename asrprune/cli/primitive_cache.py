"""Few of the kernels that oneDNN makes for shapes are kept: batches have ever new ones."""

from __future__ import annotations

import os

KEPT = "64"
"""More than the layers of one model need at a time; oneDNN's own number is 1024. A kernel that it
makes anew for each shape takes about a thousandth of a training step."""

CHOICES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY")
"""Variables with which users say themselves how many are kept; the second is its older name."""

TORCH_KEPT, TORCH_CHOICE = "1", "LRU_CACHE_CAPACITY"
"""torch keeps kernels of matrix products beside oneDNN, up to 1024 of each kind, which in bf16 with
AMX take 1 to 3 MB for each new shape. Looking one up in oneDNN costs no time that shows: 0.98 times
the processor time of training at d 256 in bf16, 0.95 that of scoring at d 512, on AMX."""


def keep_few_primitives() -> None:
    """Set the first of CHOICES to KEPT for this process and those that it starts, unless one of
    them is set, and TORCH_CHOICE likewise.

    To be called before torch is loaded: oneDNN and torch read the environment once.
    """
    if not any(name in os.environ for name in CHOICES):
        os.environ[CHOICES[0]] = KEPT
    os.environ.setdefault(TORCH_CHOICE, TORCH_KEPT)
