"""Files that belong together, in a folder that may hold others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from asrprune.files.locks import locked, remove
from asrprune.files.reading import PathLike
from asrprune.files.writing import write_folder

_TEMPORARY = ".together.tmp"


@contextlib.contextmanager
def written_together(path: PathLike) -> Iterator[Path]:
    """A folder for files that move into the folder ``path`` when the block ends without an error.

    They take the place of files of their names, all at once as far as a file system can do that;
    what else is in ``path`` stays. Where nothing is there yet the folder appears whole.
    """
    target = Path(os.path.realpath(path))
    if not target.exists():
        with write_folder(path) as folder:
            yield folder
        return
    temporary = target / _TEMPORARY
    with locked(path):
        remove(temporary)  # of a killed process
        temporary.mkdir()
        try:
            yield temporary
            for file in sorted(temporary.rglob("*")):
                place = target / file.relative_to(temporary)
                if file.is_dir():
                    place.mkdir(exist_ok=True)
                else:
                    os.replace(file, place)
        finally:
            remove(temporary)
