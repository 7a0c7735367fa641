"""Which number format matrix products are done in."""

from __future__ import annotations

import torch

PRECISIONS = ("auto", "fp32", "bf16")


def choose_precision(precision: str, device: torch.device) -> str:
    """``fp32`` or ``bf16``; ``auto`` is bf16 where the GPU or CPU has it in hardware, else fp32.

    Weights, optimiser state and loss stay in fp32; bf16 is for the matrix products. Results of
    ``auto`` depend on the machine: name the precision where they must not. Raises ValueError for
    an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}; known: {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 matrices itself; False where torch cannot tell."""
    tell = getattr(torch.cpu, "get_capabilities", None)  # older torch does not have it
    found = {} if tell is None else tell()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))
