"""Input in several packings; output that is whole or absent, by one process at a time.

- ``reading``: bytes, lines and JSON of plain, ``.gz`` and ``.xz`` files and standard input
- ``streams``: devices, pipes and open files, which are written to as they are
- ``locks``: one process at an output
- ``passing``: folders for a while
- ``writing``: files and folders that appear under their name when they are complete
- ``together``: files that appear together in a folder that may hold others
- ``open_files``: how many at once
"""

from asrprune.files.locks import locked
from asrprune.files.open_files import allow_open_files
from asrprune.files.passing import passing_folder
from asrprune.files.reading import (
    PathLike,
    content_hash,
    open_binary,
    parse_json,
    raw_lines,
    read_json,
    read_lines,
    record_lines,
    sha256,
)
from asrprune.files.streams import is_stream
from asrprune.files.together import written_together
from asrprune.files.writing import (
    append_text,
    write_binary,
    write_folder,
    write_json,
    write_packed,
    write_text,
)

__all__ = [
    "PathLike",
    "allow_open_files",
    "append_text",
    "content_hash",
    "is_stream",
    "locked",
    "open_binary",
    "parse_json",
    "passing_folder",
    "raw_lines",
    "read_json",
    "read_lines",
    "record_lines",
    "sha256",
    "write_binary",
    "write_folder",
    "write_json",
    "write_packed",
    "write_text",
    "written_together",
]
