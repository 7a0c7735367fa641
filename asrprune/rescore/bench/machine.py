"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

from asrprune.lm.protocol import LanguageModel

_X86 = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
FLAGS = (*_X86, "asimd", "sve", "i8mm", "bf16")
"""Instruction sets that decide the speed of matrix products, as Linux names them: x86, then Arm."""


def describe_machine() -> dict[str, Any]:
    """Processor with those of FLAGS that it has, usable cores, memory and operating system of this
    machine."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _cpu_info("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in _cpu_info("flags", "Features").split()],
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_bytes": pages,
        "system": f"{platform.system()} {platform.machine()}",
    }


def describe_run(lm: LanguageModel, threads: Optional[int]) -> dict[str, Any]:
    """Engine, its own choices (``note``), device and CPU threads that ``lm`` was run with, and how
    the engine was chosen where it was; n-gram models have no engine, and one thread."""
    import torch

    runtime = lm.runtime
    used = torch.get_num_threads() if threads is None else threads
    found = {**asdict(runtime), "threads": 1 if runtime.engine is None else used}
    if runtime.choice is None:
        del found["choice"]
    return found


def peak_rss_bytes() -> int:
    """The largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage counts what the process that started this one had, too
        found = re.search(
            r"^VmHWM:\s*(\d+) kB$", status.read_text("ascii", "replace"), re.MULTILINE
        )
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts KiB


def _cpu_info(*keys: str) -> str:
    """The first entry of /proc/cpuinfo with one of these keys; "" without one."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in keys:
                return value.strip()
    return ""
