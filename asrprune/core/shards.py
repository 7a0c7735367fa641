"""One command on many machines: which utterances a shard takes, its record, their order again.

Shard ``i/n`` takes the utterances whose SHA-256, as a number, leaves i - 1 divided by n. Where
utterances share forward passes, a score depends in its last bits on which do; so such a group, in
the order of the input, stays together and goes where its first utterance goes. The same groups
are computed whatever n is, and the merged output has the bytes of the unsharded one.

Beside its output ``OUT`` a shard has the record ``OUT.shard``: a first line (JSON) with the
command, then ``PLACE UTTERANCE`` of every utterance that it took, by its place in the input.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any, Callable, Optional, TypeVar

from asrprune.core.checksums import sealed_line
from asrprune.core.config import first_difference, shown
from asrprune.core.record import a_count, a_list_of, a_string, an_object, parse_record
from asrprune.core.spool import Spool, SpooledDict
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines, write_text

Item = TypeVar("Item")

FORMAT, VERSION = "asrprune-shard", 1
END = ".shard"
"""What a record's name has behind that of the output."""


@dataclass(frozen=True)
class Shard:
    """Part ``number``, from 1, of ``of``."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """
        >>> str(Shard.parse("2/8"))
        '2/8'

        Raises ValueError for anything but I/N with 1 <= I <= N.
        """
        number, sign, of = text.partition("/")
        digits = number.isascii() and number.isdigit() and of.isascii() and of.isdigit()
        if not (sign and digits and len(of) < 10 and 1 <= int(number) <= int(of)):
            raise ValueError(f"{text!r}; expected I/N, I from 1 to N, as 2/8")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def holds(self, utt: str) -> bool:
        """Whether the utterance, or the group that it is the first of, is of this shard."""
        digest = hashlib.sha256(utt.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1


@dataclass
class Part:
    """What a call takes of its utterances: those of ``shard``, or all (None).

    ``taken`` are their places and ids, ``total`` counts all that were met.
    """

    shard: Optional[Shard] = None
    taken: Spool[tuple[int, str]] = field(default_factory=Spool)
    total: int = 0

    def take(
        self,
        items: Iterable[Item],
        utt: Callable[[Any], str] = attrgetter("utt"),
        size: Callable[[Any], int] = lambda item: 1,
        group: int = 1,
    ) -> Iterator[Item]:
        """The items of this part, in order; all are read. Called once.

        A group ends with the item that reaches ``group`` by the sum of ``size``.
        """
        if self.shard is None:
            yield from items
            return
        held, mine = 0, False
        for item in items:
            if held == 0:
                mine = self.shard.holds(utt(item))
            held += size(item)
            if held >= group:
                held = 0
            self.total += 1
            if mine:
                self.taken.append((self.total - 1, utt(item)))
                yield item


@dataclass(frozen=True)
class ShardRecord:
    """The first line of the record beside ``out``.

    ``identity`` is what decides the result: option -> value. ``outputs``: name of an option -> path
    and hash of what stands there; empty while the shard is not complete. ``total`` utterances
    were met by this shard and by every other one; ``utterances`` of them it took.
    """

    out: str
    shard: Shard
    identity: Mapping[str, Any]
    command_line: tuple[str, ...]
    outputs: Mapping[str, tuple[str, str]]
    total: int = 0
    utterances: int = 0

    @property
    def path(self) -> str:
        """The record's own."""
        return self.out + END

    def write(self, taken: Iterable[tuple[int, str]] = ()) -> None:
        """Write the record, with the places and ids of its utterances."""
        first = {
            "format": FORMAT,
            "version": VERSION,
            "shard": str(self.shard),
            "identity": dict(self.identity),
            "command_line": list(self.command_line),
            "outputs": self.outputs,
            "total": self.total,
            "utterances": self.utterances,
        }
        with write_text(self.path) as stream:
            stream.write(sealed_line(json.dumps(first, ensure_ascii=False)) + "\n")
            stream.writelines(f"{place} {utt}\n" for place, utt in taken)

    def lines(self) -> Iterator[tuple[int, str]]:
        """The places and ids. Raises InputError for lines that are none, too few or too many."""
        count, before = 0, -1
        for number, line in read_lines(self.path):
            if number == 1:
                continue
            place, _, utt = line.partition(" ")
            if not (place.isascii() and place.isdigit() and before < int(place[:19]) and utt):
                expected = "PLACE UTTERANCE, places that grow"
                raise InputError(self.path, number, shown(line), expected)
            count, before = count + 1, int(place[:19])
            yield before, utt
        if count != self.utterances:
            found = f"{count} utterances"
            raise InputError(self.path, None, found, f"{self.utterances}, as its first line says")


def read_shard(out: PathLike) -> ShardRecord:
    """The record of the shard whose output is ``out``.

    Raises InputError where there is none, and for a damaged one.
    """
    path = os.fspath(out) + END
    if not os.path.exists(path):
        found = f"no {os.path.basename(path)} beside it"
        raise InputError(out, None, found, "the output of a verb with --shard, and its record")
    number, line = next(read_lines(path), (1, ""))
    if not line:
        raise InputError(path, 1, "an empty file", f'a first line with "format": "{FORMAT}"')
    record = parse_record(path, number, line).check_format(FORMAT, VERSION, "a shard's record")
    outputs = record.part("outputs")
    pairs = {name: outputs.get(name, a_list_of(a_string)) for name in outputs.values}
    if any(len(pair) != 2 for pair in pairs.values()):
        raise InputError(path, 1, "outputs of another form", "a path and a hash of each")
    try:
        shard = Shard.parse(record.get("shard", a_string))
    except ValueError as problem:
        raise InputError(path, 1, f"shard {problem}".partition(";")[0], "I/N, as 2/8") from None
    return ShardRecord(
        os.fspath(out),
        shard,
        record.get("identity", an_object),
        record.get("command_line", a_list_of(a_string)),
        {name: (pair[0], pair[1]) for name, pair in pairs.items()},
        record.get("total", a_count),
        record.get("utterances", a_count),
    )


def check_shards(records: Sequence[ShardRecord]) -> list[ShardRecord]:
    """The records in the order of their numbers.

    Raises InputError for shards of different commands, a shard that is missing or there twice or
    not complete, and an utterance that is in none or in two.
    """
    first = min(records, key=lambda one: not one.outputs)  # a complete one, if there is any
    found: dict[int, ShardRecord] = {}
    for one in records:
        if one.shard.of != first.shard.of:
            expected = f"shards of {first.shard.of}, as {first.out}"
            raise InputError(one.out, None, f"shard {one.shard}", expected)
        if key := first_difference(first.identity, one.identity):
            here, there = (_value(record.identity, key) for record in (one, first))
            raise InputError(one.out, None, f"{key} {here}", f"{there}, as {first.out}")
        if one.shard.number in found:
            other = found[one.shard.number].out
            raise InputError(one.out, None, f"shard {one.shard}", f"it once; {other} is the same")
        if not one.outputs:
            found_here = f"shard {one.shard}, which has not come to its end"
            raise InputError(one.out, None, found_here, "it complete: run its command again")
        if one.outputs.keys() != first.outputs.keys():
            names = ", ".join(one.outputs)
            raise InputError(one.out, None, f"outputs {names}", f"those of {first.out}")
        found[one.shard.number] = one
    missing = [f"{number}/{first.shard.of}" for number in range(1, first.shard.of + 1)]
    missing = [name for number, name in enumerate(missing, start=1) if number not in found]
    if missing:
        names = f"{', '.join(missing[:10])}{', ...' if missing[10:] else ''}"
        raise InputError(first.out, None, f"no shard {names} beside it", "all shards")
    ordered = [found[number] for number in sorted(found)]
    _check_places(ordered)
    return ordered


def _check_places(records: Sequence[ShardRecord]) -> None:
    """Raise InputError unless every place and every utterance is taken once."""
    first_in: SpooledDict[tuple[int, str]] = SpooledDict()
    expected = 0
    for place, utt, out in heapq.merge(*map(_lines_of, records)):
        first = first_in.setdefault(utt, (place, out))
        if place < expected or first != (place, out):
            raise InputError(out, None, f"utterance {utt} again", f"it in {first[1]} alone")
        if place > expected:
            break
        expected += 1
    total = max(one.total for one in records)
    if expected != total:
        found = f"the utterance at place {expected} of {total} in no shard"
        raise InputError(records[0].out, None, found, "every utterance in one of them")


def _lines_of(record: ShardRecord) -> Iterator[tuple[int, str, str]]:
    return ((place, utt, record.out) for place, utt in record.lines())


def in_order(
    records: Iterable[ShardRecord],
    outputs: Iterable[Iterable[Item]],
    utt: Callable[[Any], str] = attrgetter("utt"),
) -> Iterator[Item]:
    """The items of all ``outputs``, one for each record, as one command would have put them.

    Utterances without an item are those that the command left out. One item of each output is in
    memory. Raises InputError for an item that its record does not have there.
    """
    placed = (_placed(record, items, utt) for record, items in zip(records, outputs))
    for _, item in heapq.merge(*placed, key=itemgetter(0)):
        yield item


def _placed(
    record: ShardRecord, items: Iterable[Item], utt: Callable[[Any], str]
) -> Iterator[tuple[int, Item]]:
    lines = record.lines()
    for item in items:
        name = utt(item)
        place = next((place for place, one in lines if one == name), None)
        if place is None:
            expected = "the utterances of its record, in their order"
            raise InputError(record.out, None, f"utterance {name}", expected)
        yield place, item


def whole_command(record: ShardRecord, paths: Mapping[str, Optional[str]]) -> list[str]:
    """The command without ``--shard`` and with other ``paths``: option -> value, None for an
    option that it is to lack.

    >>> argv = ("asrprune", "lmscore", "--shard", "1/2", "--out=s.1", "--lm", "m")
    >>> whole_command(ShardRecord("s.1", Shard(1, 2), {}, argv, {}), {"--out": "s"})
    ['asrprune', 'lmscore', '--out=s', '--lm', 'm']
    """
    paths = {**paths, "--shard": None}
    words: list[str] = []
    given = iter(record.command_line)
    for word in given:
        flag, sign, _ = word.partition("=")
        if flag not in paths:
            words.append(word)
            continue
        path = paths[flag]
        if not sign:
            next(given, None)
        if path is not None:
            words += [f"{flag}={path}"] if sign else [flag, path]
    return words


def _value(identity: Mapping[str, Any], key: str) -> str:
    return shown(identity[key]) if key in identity else "not given"
