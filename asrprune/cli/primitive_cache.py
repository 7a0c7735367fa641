"""oneDNN keeps few of the kernels that it makes for shapes: batches have ever new ones."""

from __future__ import annotations

import os

KEPT = "64"
"""More than the layers of one model need at a time; oneDNN's own number is 1024. A kernel that it
makes anew for each shape takes about a thousandth of a training step."""

CHOICES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY")
"""Variables with which users say themselves how many are kept; the second is its older name."""


def keep_few_primitives() -> None:
    """Set the first of CHOICES to KEPT for this process and those that it starts, unless one of
    them is set.

    To be called before torch is loaded: oneDNN reads the environment once.
    """
    if not any(name in os.environ for name in CHOICES):
        os.environ[CHOICES[0]] = KEPT
