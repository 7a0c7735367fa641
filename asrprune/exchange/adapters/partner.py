"""The libraries of partners, imported when an adapter is made."""

from __future__ import annotations

import importlib
from typing import Any


def partner(module: str, install: str) -> Any:
    """The partner's ``module``. Raises ImportError with the line that installs it, ``pip install``
    and ``install``, where it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as problem:
        found = f"{module} is needed here ({problem})"
        raise ImportError(f"{found}: pip install {install}") from None
