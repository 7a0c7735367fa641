"""Records that need not fit in memory: in the order they came, by utterance id, or sorted.

They lie in a temporary file without a name (in TMPDIR), which is gone with the process.
"""

from __future__ import annotations

import heapq
import io
import pickle
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import IO, Any, Optional, TypeVar

import numpy as np

T = TypeVar("T")

IN_MEMORY = 1 << 20
"""So many bytes of a spool are kept in memory before a file is opened."""

_UNIT = 8  # records begin at multiples of it
_SIZE = 4  # bytes in front of a record that tell its length


class Spool(Collection[T]):
    """Records in the order in which they were added, which can be gone through again and again.

    A record is what pickle can write; every reading makes a new one.
    """

    def __init__(self, records: Iterable[T] = ()) -> None:
        self._file: IO[bytes] = io.BytesIO()
        self._end = 0
        self._at_end = True
        self._count = 0
        for record in records:
            self.append(record)

    def append(self, record: T) -> int:
        """Add a record and return its place, by which ``at`` finds it."""
        packed = pickle.dumps(record, pickle.HIGHEST_PROTOCOL)
        place = self._end
        if not self._at_end:
            self._file.seek(place)
            self._at_end = True
        padding = -(_SIZE + len(packed)) % _UNIT
        self._file.write(len(packed).to_bytes(_SIZE, "little") + packed + bytes(padding))
        self._end += _SIZE + len(packed) + padding
        self._count += 1
        if place <= IN_MEMORY < self._end and isinstance(self._file, io.BytesIO):
            on_disk = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as this)
            on_disk.write(self._file.getbuffer())
            self._file = on_disk
        return place // _UNIT

    def __del__(self) -> None:
        self._file.close()

    def at(self, place: int) -> T:
        """The record at a place that ``append`` returned."""
        return self._read(place * _UNIT)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        place = 0
        for _ in range(self._count):
            record = self._read(place)
            place = self._file.tell()  # before others read here, too
            place += -place % _UNIT
            yield record

    def __contains__(self, record: object) -> bool:
        return any(one == record for one in self)

    def _read(self, start: int) -> T:
        self._at_end = False
        self._file.seek(start)
        size = int.from_bytes(self._file.read(_SIZE), "little")
        record: T = pickle.loads(self._file.read(size))
        return record


_PLACE_BITS = 36
_PLACE = (1 << _PLACE_BITS) - 1
_CHECK_BITS = 64 - _PLACE_BITS
_AT_ONCE = 1024  # entries of a table that are Python numbers at one time
_FULLEST = 0.6  # of a table; linear probing then looks at 2 places on average


class SpooledDict(Mapping[str, T]):
    """Utterance id -> record, in the order in which they were added; about 16 bytes of memory an
    id. Equal to a dict of the same items.

    A table finds the record by 28 bits of the id's hash, and what is found is compared with the
    id itself, so that there is no mistaking one id for another.
    """

    def __init__(self, items: Iterable[tuple[str, T]] = ()) -> None:
        self._records: Spool[tuple[str, T]] = Spool()
        self._bits = 10
        # of a place in use: the hash's first bits, then the record's place + 1
        self._table = np.zeros(1 << self._bits, np.uint64).data
        for key, value in items:
            self.setdefault(key, value)

    def setdefault(self, key: str, value: T) -> T:
        """The record of ``key``, which is ``value`` from now on if it had none."""
        check = _check(key)
        slot, found = self._find(key, check)
        if found is not None:
            return found[1]
        place = self._records.append((key, value))
        self._table[slot] = check << _PLACE_BITS | (place + 1)
        if len(self._records) > _FULLEST * len(self._table):
            self._grow()
        return value

    def __getitem__(self, key: str) -> T:
        found = self._find(key, _check(key))[1]
        if found is None:
            raise KeyError(key)
        return found[1]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._find(key, _check(key))[1] is not None

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self._records)

    def items(self) -> Iterable[tuple[str, T]]:  # type: ignore[override]
        """(id, record) of everything, in its order, read one after the other."""
        return iter(self._records)

    def values(self) -> Iterable[T]:  # type: ignore[override]
        """The records, in the same way."""
        return (value for _, value in self._records)

    def _find(self, key: str, check: int) -> tuple[int, Optional[tuple[str, T]]]:
        """The slot of the table that holds ``key``, and its record; or a free one, and None."""
        table, last = self._table, len(self._table) - 1
        slot = check >> (_CHECK_BITS - self._bits)
        while entry := table[slot]:
            if entry >> _PLACE_BITS == check:
                found = self._records.at((entry & _PLACE) - 1)
                if found[0] == key:
                    return slot, found
            slot = slot + 1 & last
        return slot, None

    def _grow(self) -> None:
        """A table of twice the size. The first bits of the hash say where an entry goes, so that
        no id is read again."""
        old = self._table
        self._bits += 1
        table = self._table = np.zeros(1 << self._bits, np.uint64).data
        last, shift = len(table) - 1, 64 - self._bits
        for start in range(0, len(old), _AT_ONCE):
            for entry in filter(None, old[start : start + _AT_ONCE].tolist()):
                slot = entry >> shift
                while table[slot]:
                    slot = slot + 1 & last
                table[slot] = entry


def _check(key: str) -> int:
    return (hash(key) & 0xFFFF_FFFF_FFFF_FFFF) >> _PLACE_BITS


class SpooledColumn(Mapping[str, T]):
    """One part of records that are tuples: utterance id -> its ``number``-th entry."""

    def __init__(self, records: SpooledDict[Any], number: int) -> None:
        self._records = records
        self._number = number

    def __getitem__(self, key: str) -> T:
        value: T = self._records[key][self._number]
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._records

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def items(self) -> Iterable[tuple[str, T]]:  # type: ignore[override]
        """(id, entry) of everything, in its order."""
        return ((key, record[self._number]) for key, record in self._records.items())

    def values(self) -> Iterable[T]:  # type: ignore[override]
        """The entries, in the same way."""
        return (record[self._number] for record in self._records.values())


class SortedLines:
    """Lines that come in any order and are given back sorted, repeated ones as often as they came.

    Only ``at_once`` of them are in memory, and a block of each such part when they are read.
    """

    _BLOCK = 1000

    def __init__(self, lines: Iterable[str] = (), at_once: int = 50_000) -> None:
        self._at_once = at_once
        self._lines: list[str] = []
        self._blocks: Spool[list[str]] = Spool()
        self._parts: list[list[int]] = []  # where the blocks of each part are
        for line in lines:
            self.add(line)

    def add(self, line: str) -> None:
        """Add one line."""
        self._lines.append(line)
        if len(self._lines) == self._at_once:
            self._lines.sort()
            blocks = range(0, self._at_once, self._BLOCK)
            parts = (self._lines[start : start + self._BLOCK] for start in blocks)
            self._parts.append([self._blocks.append(part) for part in parts])
            self._lines = []

    def __len__(self) -> int:
        return len(self._parts) * self._at_once + len(self._lines)

    def __iter__(self) -> Iterator[str]:
        parts = (chain.from_iterable(map(self._blocks.at, places)) for places in self._parts)
        return heapq.merge(*parts, sorted(self._lines))
