"""Records that need not fit in memory: in the order they came, by utterance id, or sorted.

They lie in temporary files without names (in TMPDIR), which are gone with the process.
"""

from __future__ import annotations

import errno
import os
import pickle
import sqlite3
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Optional, TypeVar

T = TypeVar("T")

IN_MEMORY = 1 << 20
"""So many bytes of a spool are kept in memory before a file is opened."""

FEW = 10_000
"""So many records of a SpooledDict are kept in memory."""

CACHE_KIB = 4 << 10
"""So much memory a table takes before it is on disk."""

_SIZE = 4  # bytes in front of a record that tell its length


class Spool(Collection[T]):
    """Records in the order in which they were added, which can be gone through again and again,
    also while others are added.

    A record is what pickle can write; every reading makes a new one.
    """

    def __init__(self, records: Iterable[T] = ()) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 (it lives as long)
        self._end = self._count = 0
        self._at_end = True
        for record in records:
            self.append(record)

    def append(self, record: T) -> None:
        """Add a record."""
        packed = pickle.dumps(record, pickle.HIGHEST_PROTOCOL)
        try:
            if not self._at_end:
                self._file.seek(self._end)
                self._at_end = True
            self._file.write(len(packed).to_bytes(_SIZE, "little") + packed)
        except OSError as problem:
            raise _named(problem) from None
        self._end += _SIZE + len(packed)
        self._count += 1

    def __del__(self) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        place = 0
        for _ in range(self._count):
            self._at_end = False
            try:
                self._file.seek(place)
                size = int.from_bytes(self._file.read(_SIZE), "little")
                packed = self._file.read(size)
            except OSError as problem:
                raise _named(problem) from None
            place += _SIZE + size
            yield pickle.loads(packed)

    def __contains__(self, record: object) -> bool:
        return any(one == record for one in self)


def _named(problem: OSError | sqlite3.OperationalError) -> OSError:
    """An error of writing (a full disk and the like) that names the place."""
    if isinstance(problem, OSError):
        return OSError(problem.errno, problem.strerror, tempfile.gettempdir())
    place = os.environ.get("SQLITE_TMPDIR") or os.environ.get("TMPDIR") or "/var/tmp"
    return OSError(errno.EIO, str(problem), place)


class SpooledDict(Mapping[str, T]):
    """Utterance id -> record, in the order in which they were added: the first FEW in memory, the
    others on disk. Equal to a dict of the same items."""

    def __init__(self, items: Iterable[tuple[str, T]] = ()) -> None:
        self._first: dict[str, T] = {}
        self._later: Optional[sqlite3.Connection] = None
        self._count = 0
        for key, value in items:
            self.setdefault(key, value)

    def setdefault(self, key: str, value: T) -> T:
        """The record of ``key``, which is ``value`` from now on if it had none."""
        first = self._first
        if key in first:
            return first[key]
        if len(first) < FEW:
            first[key] = value
        else:
            if self._later is None:
                self._later = _table("number integer primary key, id blob unique, record blob")
            row = _bytes(key), pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
            add = "insert or ignore into spool (id, record) values (?, ?)"
            try:
                added = self._later.execute(add, row).rowcount
            except sqlite3.OperationalError as problem:
                raise _named(problem) from None
            if not added:
                return self[key]
        self._count += 1
        return value

    def __getitem__(self, key: str) -> T:
        if key in self._first:
            return self._first[key]
        row = self._row("record", key)
        if row is None:
            raise KeyError(key)
        record: T = pickle.loads(row[0])
        return record

    def __contains__(self, key: object) -> bool:
        return key in self._first or (isinstance(key, str) and self._row("1", key) is not None)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        yield from self._first
        for (key,) in self._rows("id"):
            yield key.decode("utf-8", _ERRORS)

    def items(self) -> Iterable[tuple[str, T]]:  # type: ignore[override]
        """(id, record) of everything, in its order, read one after the other."""
        yield from self._first.items()
        for key, record in self._rows("id, record"):
            yield key.decode("utf-8", _ERRORS), pickle.loads(record)

    def values(self) -> Iterable[T]:  # type: ignore[override]
        """The records, in the same way."""
        yield from self._first.values()
        for (record,) in self._rows("record"):
            yield pickle.loads(record)

    def _row(self, what: str, key: str) -> Any:
        if self._later is None:
            return None
        asked = f"select {what} from spool where id = ?"
        return self._later.execute(asked, (_bytes(key),)).fetchone()

    def _rows(self, what: str) -> Iterable[Any]:
        if self._later is None:
            return ()
        return self._later.execute(f"select {what} from spool order by number")


class SpooledSet:
    """Utterance ids, those after the first FEW on disk."""

    def __init__(self) -> None:
        self._ids: SpooledDict[None] = SpooledDict()

    def add(self, key: str) -> None:
        """Add an id."""
        self._ids.setdefault(key, None)

    def __contains__(self, key: str) -> bool:
        return key in self._ids

    def __len__(self) -> int:
        return len(self._ids)


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
    """Lines that come in any order and are given back sorted, as often as they came."""

    _AT_ONCE = 1000

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self._table = _table("line blob")
        self._count = 0
        self._new: list[tuple[bytes]] = []
        for line in lines:
            self.add(line)

    def add(self, line: str) -> None:
        """Add one line."""
        self._new.append((_bytes(line),))
        self._count += 1
        if len(self._new) == self._AT_ONCE:
            self._put()

    def _put(self) -> None:
        try:
            self._table.executemany("insert into spool values (?)", self._new)
        except sqlite3.OperationalError as problem:
            raise _named(problem) from None
        self._new.clear()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        self._put()
        for (line,) in self._table.execute("select line from spool order by line"):
            yield line.decode("utf-8", _ERRORS)


_ERRORS = "surrogatepass"  # as it sorts, UTF-8 sorts


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", _ERRORS)


def _table(columns: str) -> sqlite3.Connection:
    """An empty table ``spool`` in a database of its own, which has no name."""
    table = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    for setting in ("journal_mode = off", "synchronous = off", f"cache_size = -{CACHE_KIB}"):
        table.execute(f"pragma {setting}")
    table.execute(f"create table spool ({columns})")
    table.execute("begin")  # one transaction for good: what is lost with the process may be
    return table
