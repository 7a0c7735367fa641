"""Places that are written to as they are: standard output, devices, pipes, open files."""

from __future__ import annotations

import os
import re
import stat
from typing import Optional, Union

_STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}
_OPEN_FILE = re.compile(r"(?:/dev|/proc/self)/fd/([0-9]{1,9})")


def is_stream(path: Union[str, os.PathLike[str]]) -> bool:
    """Whether ``path`` is written to as it is: standard output (``-``), a device, a pipe, or what
    a process has open already."""
    name = os.fspath(path)
    if name == "-" or descriptor(name) is not None:
        return True
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def descriptor(path: Union[str, os.PathLike[str]]) -> Optional[int]:
    """The number of the open file that ``path`` is a name of, such as ``/dev/stdout``."""
    name = os.path.normpath(os.fspath(path))
    match = _OPEN_FILE.fullmatch(name)
    return int(match.group(1)) if match else _STANDARD.get(name)
