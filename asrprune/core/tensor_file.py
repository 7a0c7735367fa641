"""Files of ``torch.save`` that hold plain tensors, looked through before torch loads them.

torch believes what a file says of its sizes: a damaged one makes it ask for any amount of memory,
or read beyond what was stored. So the names, sizes and types inside are read first, by Python alone
and without building anything; torch gets only what fits together.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar

from asrprune.errors import InputError
from asrprune.files import PathLike, open_binary

_ITEM_BYTES = {
    **{"DoubleStorage": 8, "LongStorage": 8, "FloatStorage": 4, "IntStorage": 4},
    **{"HalfStorage": 2, "BFloat16Storage": 2, "ShortStorage": 2},
    **{"CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1, "UntypedStorage": 1},
}
_LARGEST_STRUCTURE = 64 << 20
"""Bytes of what names the tensors; they themselves are stored apart."""
_DAMAGE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    RuntimeError,  # of zipfile for packings and passwords, too
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    AssertionError,
    RecursionError,
)
"""What reading a damaged archive raises, Python's modules and torch alike."""


def load_tensors(path: PathLike, device: Any = "cpu") -> Any:
    """What ``torch.save`` wrote to ``path`` (``.gz`` too): plain values and tensors, on ``device``.

    Raises InputError for anything else: other objects, sizes that do not fit what is stored,
    packed parts, the format of torch before 1.6.
    """
    import torch  # not at import time: most formats need none

    with open_binary(path) as stream:
        try:
            _check(stream)
            stream.seek(0)
            return torch.load(stream, map_location=device, weights_only=True)
        except _DAMAGE as problem:
            reason = (str(problem).strip() or type(problem).__name__).splitlines()[0][:100]
            found = f"not loadable as plain tensors ({reason})"
            raise InputError(path, None, found, "a file of torch.save, of tensors alone") from None


def _check(stream: BinaryIO) -> None:
    """Raise one of _DAMAGE unless all sizes in the archive fit together."""
    size = stream.seek(0, io.SEEK_END)
    with zipfile.ZipFile(stream) as archive:
        parts = archive.infolist()
        names = [part.filename for part in parts]
        if len(set(names)) < len(names):
            raise ValueError("a part that comes twice")
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise ValueError("parts that are packed")
        if sum(part.file_size for part in parts) > size:
            raise ValueError(f"parts of more than the file's {size} bytes")
        (structure,) = (part for part in parts if part.filename.endswith("/data.pkl"))
        if structure.file_size > _LARGEST_STRUCTURE:
            raise ValueError(f"a structure of {structure.file_size} bytes")
        root = structure.filename[: -len("data.pkl")]
        stored = {
            part.filename[len(root) + len("data/") :]: part.file_size
            for part in parts
            if part.filename.startswith(f"{root}data/")
        }
        _Structure(archive.read(structure), stored).load()


class _Values(dict[Any, Any]):
    """Stands for an OrderedDict, which may have attributes."""


class _Structure(pickle._Unpickler):  # type: ignore[name-defined,misc]  # keeps no memo by number
    """Reads the structure of an archive; ``stored``: bytes of the tensors' data, by their key.

    Tensors become None. Only what plain tensors need is known, and nothing is ever called but the
    methods here.
    """

    dispatch: ClassVar[dict[int, Any]] = {  # without what makes room before it reads
        code: load
        for code, load in pickle._Unpickler.dispatch.items()  # type: ignore[attr-defined]
        if code not in (pickle.BYTEARRAY8[0], pickle.NEXT_BUFFER[0])
    }

    def __init__(self, structure: bytes, stored: Mapping[str, int]) -> None:
        super().__init__(io.BytesIO(structure))
        self._stored = stored

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _ITEM_BYTES:
            return _ITEM_BYTES[name]
        if (module, name) == ("torch.storage", "UntypedStorage"):
            return 1
        known = {
            "torch._utils._rebuild_tensor_v2": _check_tensor,
            "collections.OrderedDict": _Values,
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"{module}.{name} is no plain tensor")
        return known[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> int:
        """The number of items of a tensor's data."""
        what, item_bytes, key, _, count = pid
        if what != "storage" or type(item_bytes) is not int or type(count) is not int:
            raise ValueError(f"data of kind {what!r}")
        if count < 0 or key not in self._stored or count * item_bytes > self._stored[key]:
            raise ValueError(f"{count} numbers in data of {self._stored.get(key)} bytes")
        return count


def _check_tensor(count: int, offset: int, size: Any, stride: Any, *_: Any) -> None:
    """Raise ValueError unless a tensor lies within ``count`` numbers and has no more than that."""
    numbers = [offset, *size, *stride]
    if not all(type(one) is int and one >= 0 for one in numbers) or len(size) != len(stride):
        raise ValueError(f"a tensor of shape {size}")
    last = offset + sum((one - 1) * step for one, step in zip(size, stride))
    if math.prod(size) > 0 and (last >= count or math.prod(size) > count):
        raise ValueError(f"a tensor of shape {size} in {count} numbers")
