"""Processes of others, seen from outside."""

from __future__ import annotations

from pathlib import Path


def lives(pid: int) -> bool:
    """Whether the process runs: it is there, and no zombie. Linux only."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
