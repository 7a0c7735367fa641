"""Writing output that is whole or absent.

It is written under a temporary name beside its own and renamed at the end. A symbolic link is
followed: what it names is replaced. Devices, pipes and what a process has open already
(``/dev/stdout``, ``>(command)``) are written to as they are.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import lzma
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Optional, TextIO, cast

from asrprune.files.locks import OLD, TEMPORARY, beside, locked, remove
from asrprune.files.reading import PathLike
from asrprune.files.streams import descriptor, is_stream


@contextlib.contextmanager
def write_text(path: PathLike) -> Iterator[TextIO]:
    """A text file that appears under its name only when the block ends without an error.

    ``.gz`` and ``.xz`` are compressed, as by ``write_packed``; ``-`` is standard output.
    """
    name = os.fspath(path)
    if name == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    with write_packed(name) as raw, _text_over(raw) as text:
        yield text


@contextlib.contextmanager
def _text_over(raw: BinaryIO) -> Iterator[TextIO]:
    text = io.TextIOWrapper(raw, encoding="utf-8", newline="\n", write_through=False)
    try:
        yield text
        text.flush()
    finally:
        text.detach()


@contextlib.contextmanager
def write_binary(path: PathLike) -> Iterator[BinaryIO]:
    """A binary file that appears under its name only when the block ends without an error.

    Raises OSError that names ``path`` when the disk is full and the like, whatever the writer in
    the block made of it; InputError when another process is at this output.
    """
    if is_stream(path):
        with _naming(path, Path(path)), _open(path) as stream:
            yield stream
        return
    target = Path(os.path.realpath(path))
    temporary = beside(target, TEMPORARY)
    with locked(path):
        try:
            with _naming(path, temporary), _open(temporary) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            with _naming(path, temporary):
                os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def write_packed(path: PathLike) -> Iterator[BinaryIO]:
    """As ``write_binary``; ``.gz`` and ``.xz`` are compressed, without a time stamp: same content,
    same bytes."""
    name = os.fspath(path)
    with write_binary(path) as raw:
        if name.endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as gz:
                yield cast(BinaryIO, gz)
        elif name.endswith(".xz"):
            with lzma.LZMAFile(raw, "wb") as xz:
                yield cast(BinaryIO, xz)
        else:
            yield raw


@contextlib.contextmanager
def write_folder(path: PathLike) -> Iterator[Path]:
    """A folder that appears under its name, replacing an older one, only if the block succeeds.

    The block gets the temporary folder. Raises as ``write_binary``.
    """
    target = Path(os.path.realpath(path))
    temporary, old = beside(target, TEMPORARY), beside(target, OLD)
    with locked(path):
        remove(temporary)
        try:
            with _naming(path, temporary):
                temporary.mkdir()
                yield temporary
                if target.is_dir():
                    os.replace(target, old)  # killed here: the next process puts it back
                os.replace(temporary, target)
        finally:
            remove(temporary)
        remove(old)


@contextlib.contextmanager
def append_text(path: PathLike) -> Iterator[TextIO]:
    """A text file that is added to, on disk when the block ends. Raises OSError as
    ``write_binary``; what was added before it, whole lines or not, stays."""
    with _naming(path, Path(path)), open(path, "ab") as raw, _text_over(raw) as text:
        yield text
        text.flush()
        raw.flush()
        os.fsync(raw.fileno())


def write_json(path: PathLike, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all. NaN and infinity are refused."""
    with write_text(path) as stream:
        json.dump(value, stream, indent=2, ensure_ascii=False, allow_nan=False)
        stream.write("\n")


class _File(io.FileIO):
    """A file that remembers why writing failed: archive writers turn that into errors of theirs."""

    problem: Optional[OSError] = None

    def write(self, block: Any) -> Any:
        try:
            return super().write(block)
        except OSError as problem:
            self.problem = problem
            raise


@contextlib.contextmanager
def _open(path: PathLike) -> Iterator[BinaryIO]:
    number = descriptor(path)
    # a copy of the open file goes on where that is; opened by name it would start anew
    raw = _File(path if number is None else os.dup(number), "wb")
    stream = io.BufferedWriter(raw)
    try:
        yield cast(BinaryIO, stream)
    except BaseException as found:
        _give_up(stream)
        if raw.problem is not None and isinstance(found, Exception) and found is not raw.problem:
            raise raw.problem from None
        raise
    else:
        try:
            stream.close()
        except OSError:
            _give_up(stream)
            raise


def _give_up(stream: io.BufferedWriter[_File]) -> None:
    """Close the file without the bytes that could not be written."""
    with contextlib.suppress(OSError):
        stream.raw.close()
    with contextlib.suppress(ValueError, OSError):
        stream.detach()


@contextlib.contextmanager
def _naming(path: PathLike, temporary: Path) -> Iterator[None]:
    """An OSError of the block names ``path`` where it names the temporary place, or none."""
    try:
        yield
    except OSError as problem:
        named = problem.filename
        inside = named is not None and _inside(Path(os.fsdecode(named)), temporary)
        if problem.errno is None or (named is not None and inside is None):
            raise
        shown = os.path.join(path, inside) if inside else os.fspath(path)
        raise OSError(problem.errno, os.strerror(problem.errno), shown) from None


def _inside(path: Path, folder: Path) -> Optional[str]:
    """The name of ``path`` in ``folder``, "" for the folder itself, None for a place elsewhere."""
    if not path.is_relative_to(folder):
        return None
    name = os.fspath(path.relative_to(folder))
    return "" if name == "." else name
