"""What the fuzz does to a file: seeded damage of bytes, lines, numbers, JSON, archives.

A mutation is a function of a random generator and the file's bytes; ``MUTATIONS`` says which suit
which kind of content. The same generator gives the same damage.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import lzma
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

Mutation = Callable[[random.Random, bytes], bytes]

PIECES = [b"", b"\n", b"\n\n", b"\r", b"\t", b" ", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc2\xa0"]
PIECES += [b"nan", b"-inf", b"Infinity", b"1e999", b"-1", b"9" * 30, b"1_0", b"\xd9\xa3", b"0x1"]
PIECES += [b"{", b"[", b'"', b"}", b"]", b"(", b")", b"<", b">", b"\\", b"\\ud800", b"|", b";;"]
PIECES += [b"null", b"true", b"<eps>", b"<s>", b"</s>", b"u-1", b"\x1c", b"\xe2\x80\xa8", b"/"]
NUMBERS = [b"nan", b"inf", b"-inf", b"1e400", b"-1", b"0", b"1", b"2", b"1.5", b"2147483648", b""]
NUMBERS += [b"9223372036854775808", b"1" + b"0" * 400, b"7" * 5000, b"-0", b"1e-400", b"true"]
NUMBERS += [b"1000000000", b"4294967296", b"99999999999"]
INTEGERS = [0, 1, -1, 2**31 - 1, -(2**31), 2**32 - 1, 2**62, 2**63 - 1, 10**9, 65536, 255]
LONG = 100_000
"""Characters of a long token: what is quadratic in them takes minutes."""
FILLS = ["a", " ", "\t", '"', "'", "1", "(", "[", "{", "<", "\\", "a ", "( ", "[a", "<a", "\u4eca"]
FILLS += ["\u0301", "-a", "{ a / ", "+", "_", "a,", "\u200c", "=", ":", "!SIL", "0.", "\\303"]
DEEP = 100_000
VALUES: list[Any] = [None, True, False, 0, 1, -1, 0.5, -1e308, 10**9, 10**12, 2**63, 10**400, ""]
VALUES += ["a", "\x00", "\ud800", "nan", "-inf", "../..", "x" * LONG, [], [[]], {}, {"a": 1}]
VALUES += [[None], [1, 2], [0.5, "a"], [[1, 2], [3]], "1", float("nan"), float("inf"), [0] * 50]


def _flip_bits(rng: random.Random, data: bytes) -> bytes:
    raw = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8]) if raw else 0):
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(raw)


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _remove(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.choice([1, 2, 4, 8, 64]) :]


def _insert(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + rng.choice(PIECES) + data[start + rng.choice([0, 0, 1, 3, 12]) :]


def _insert_long(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    fill = rng.choice(FILLS)
    long = (fill * (LONG // len(fill))).encode()
    return data[:start] + long + data[start:]


def _insert_deep(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + rng.choice([b"[", b'{"a":', b"(", b"{ a / ", b"<"]) * DEEP + data[start:]


def _integer(rng: random.Random, data: bytes) -> bytes:
    """A binary number in the place of another."""
    form = rng.choice(["<i", "<q", ">i", "<H"])
    size = struct.calcsize(form)
    value = rng.choice(INTEGERS) & (256**size - 1)
    start = rng.randrange(max(1, len(data) - size + 1))
    if rng.random() < 0.5:
        start -= start % size
    return data[:start] + value.to_bytes(size, "little") + data[start + size :]


def _move(rng: random.Random, data: bytes) -> bytes:
    """A piece of the file in another place, over what was there or between."""
    if not data:
        return data
    start, size = rng.randrange(len(data)), rng.choice([1, 4, 8, 32, 256])
    piece = data[start : start + size]
    place = rng.randrange(len(data) + 1)
    return data[:place] + piece + data[place + rng.choice([0, len(piece)]) :]


def _twice(rng: random.Random, data: bytes) -> bytes:
    return data + data


def _empty(rng: random.Random, data: bytes) -> bytes:
    return rng.choice([b"", b"\n", b" ", b"\0" * 64, b"\xff" * 64])


def _number(rng: random.Random, data: bytes) -> bytes:
    numbers = list(re.finditer(rb"-?[0-9]+(\.[0-9]+)?", data[:100_000]))
    if not numbers:
        return _insert(rng, data)
    found = rng.choice(numbers)
    other = rng.choice([*NUMBERS, *[rng.choice(numbers).group()] * 10, *[_near(rng, found)] * 10])
    return data[: found.start()] + other + data[found.end() :]


def _near(rng: random.Random, number: re.Match[bytes]) -> bytes:
    value = float(number.group()[:20]) + rng.choice([-1, 1, 0.5, 100])
    return str(int(value) if value.is_integer() else value).encode()


def _lines(rng: random.Random, data: bytes) -> bytes:
    """Lines removed, doubled, exchanged."""
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        del lines[one]
    elif kind == 1:
        lines.insert(other, lines[one])
    elif kind == 2:
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines[one] = lines[one].rstrip(b"\n") + lines[other]
    return b"".join(lines)


def _fields(rng: random.Random, data: bytes) -> bytes:
    """Fields of a line removed, doubled, exchanged, or another line's."""
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    fields = re.split(rb"([ \t|,:=]+)", lines[place])
    words = list(range(0, len(fields), 2))
    one, other = rng.choice(words), rng.choice(words)
    foreign = re.split(rb"[ \t|,:=]+", rng.choice(lines))
    kind = rng.randrange(4)
    if kind == 0:
        fields[one], fields[other] = fields[other], fields[one]
    elif kind == 1:
        del fields[one : one + 2]
    elif kind == 2:
        fields[one] = rng.choice(foreign)
    else:
        fields[one : one + 1] = [fields[one], b" ", fields[other]]
    lines[place] = b"".join(fields)
    return b"\n".join(lines)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values inside a JSON value, its own first."""
    found = [path]
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))[:20]
    for key, inner in items:
        found += _paths(inner, (*path, key))
    return found


def _changed(rng: random.Random, value: Any) -> Any:
    """A JSON value with one part of another type or size, missing, renamed or exchanged."""
    value = copy.deepcopy(value)
    paths = _paths(value)
    path = rng.choice(paths)
    if not path:
        return rng.choice(VALUES) if rng.random() < 0.3 else value
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    key = path[-1]
    kind = rng.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        name = rng.choice(["", "a", str(key).upper(), "x" * LONG, "\ud800", *map(str, holder)])
        holder[name] = holder.pop(key)
    elif kind == 2 and isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), holder[key])
    elif kind == 3:
        other = rng.choice(paths)
        found = value
        for step in other:
            found = found[step]
        holder[key] = copy.deepcopy(found)
    elif kind == 4 and isinstance(holder[key], (int, float)) and abs(holder[key]) < 1e300:
        holder[key] = rng.choice(
            [-holder[key], holder[key] * 2, holder[key] + 1, float(holder[key])]
        )
    elif kind == 5 and isinstance(holder, dict):
        holder[rng.choice(["", "a", "version", "x" * 100])] = rng.choice(VALUES)
    else:
        holder[key] = rng.choice(VALUES)
    return value


def _json(rng: random.Random, data: bytes) -> bytes:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return _insert(rng, data)
    value = _changed(rng, value)
    text = json.dumps(value, indent=rng.choice([None, 2]), ensure_ascii=rng.random() < 0.9)
    if rng.random() < 0.1:  # a value that is nested deep, or a key that comes twice
        deep = rng.choice(["[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP])
        places = [found.end() for found in re.finditer(r": ", text)] or [0]
        place = rng.choice(places)
        text = text[:place] + deep + ", " * rng.randrange(2) + text[place:]
    return text.encode("utf-8", "surrogatepass")


def _json_line(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    places = [place for place, line in enumerate(lines) if line]
    if not places:
        return _insert(rng, data)
    place = rng.choice(places)
    lines[place] = _json(rng, lines[place]).replace(b"\n", b" ")
    return b"\n".join(lines)


def _archive(rng: random.Random, data: bytes) -> bytes:
    """A zip file with one of its parts damaged, and a right checksum."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            parts = [(name, old.read(name)) for name in old.namelist()]
    except (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError):  # packings, passwords
        return _flip_bits(rng, data)
    place = rng.randrange(len(parts))
    name, part = parts[place]
    if rng.random() < 0.1:
        del parts[place]
    elif rng.random() < 0.1:
        parts[place] = (rng.choice(["x", name + "x", *(one for one, _ in parts)]), part)
    else:
        parts[place] = (name, rng.choice([_flip_bits, _cut, _integer, _move, _insert])(rng, part))
    stream = io.BytesIO()
    names: set[str] = set()
    how = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(stream, "w", how) as new:
        for name, part in parts:
            if name not in names:
                new.writestr(name, part)
            names.add(name)
    return stream.getvalue()


def _tensors(rng: random.Random, data: bytes) -> bytes:
    """A safetensors file with its header changed, and a right length of it."""
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size])
    except (ValueError, RecursionError):
        return _flip_bits(rng, data)
    text = json.dumps(_changed(rng, header)).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def _packed_again(rng: random.Random, data: bytes, inner: Mutation) -> bytes:
    """Damage of what is compressed, or of bytes that are not."""
    for head, unpack, pack in (
        (b"\x1f\x8b", gzip.decompress, lambda plain: gzip.compress(plain, 1, mtime=0)),
        (b"\xfd7zXZ", lzma.decompress, lambda plain: lzma.compress(plain, preset=0)),
    ):
        if data.startswith(head):
            try:
                return pack(inner(rng, unpack(data)))
            except (OSError, EOFError, zlib.error, lzma.LZMAError):
                return inner(rng, data)
    return inner(rng, data)


_BYTES: list[Mutation] = [_flip_bits, _cut, _remove, _insert, _move, _integer, _twice, _empty]
_TEXT: list[Mutation] = [*_BYTES, _number, _number, _lines, _lines, _fields, _fields, _insert]
_LONG_TEXT: list[Mutation] = [*_TEXT, _insert_long, _insert_long, _insert_deep]
MUTATIONS: dict[str, list[Mutation]] = {
    "text": _LONG_TEXT,
    "json": [*_LONG_TEXT, *[_json] * 20],
    "jsonl": [*_LONG_TEXT, *[_json_line] * 20],
    "bytes": [*_BYTES, _integer, _integer, _flip_bits, _insert_long],
    "archive": [*_BYTES, *[_archive] * 12],
    "tensors": [*_BYTES, *[_tensors] * 12],
}
"""Content -> what is done to it, likelier what stands there more often."""


def mutated(rng: random.Random, content: str, data: bytes) -> bytes:
    """``data`` of the kind ``content`` of MUTATIONS after one to three mutations."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        inner = rng.choice(MUTATIONS[content])
        data = _packed_again(rng, data, inner) if rng.random() < 0.7 else inner(rng, data)
    return data


TEXT_CONTENTS = frozenset({"text", "json", "jsonl"})
_WORD = re.compile(rb"[^\s\"{}\[\]:,=()<>|']+")


def lengthened(rng: random.Random, content: str, data: bytes, fill: str, size: int) -> bytes:
    """Text with ``fill``, again and again for ``size`` bytes, within one of its words: in JSON,
    written as a string holds it."""
    raw = (
        fill.encode() if content == "text" else json.dumps(fill, ensure_ascii=False)[1:-1].encode()
    )
    long = raw * (size // len(raw))

    def longer(rng: random.Random, plain: bytes) -> bytes:
        word = rng.choice(list(_WORD.finditer(plain)))
        place = rng.randrange(word.start(), word.end() + 1)
        return plain[:place] + long + plain[place:]

    return _packed_again(rng, data, longer)
