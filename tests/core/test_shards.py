"""Which utterances a shard takes, and the order that its record gives back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import pytest

from asrprune.core.shards import Part, Shard, ShardRecord, check_shards, in_order, read_shard
from asrprune.errors import InputError


@dataclass(frozen=True)
class Utterance:
    utt: str
    size: int = 1


UTTERANCES = [Utterance(f"u{number}", 1 + number % 3) for number in range(200)]


def taken(shard: Shard, group: int = 1) -> list[Utterance]:
    return list(Part(shard).take(UTTERANCES, size=lambda one: one.size, group=group))


def test_the_shard_of_an_utterance_is_that_of_its_hash() -> None:
    assert 0x9DC02223DA426384 % 3 == 0  # `printf u0 | sha256sum` begins so on every machine
    assert [Shard(number, 3).holds("u0") for number in (1, 2, 3)] == [True, False, False]


@pytest.mark.parametrize("group", [1, 10])
@pytest.mark.parametrize("of", [1, 3, 40])
def test_every_utterance_is_in_one_shard(of: int, group: int) -> None:
    parts = [taken(Shard(number, of), group) for number in range(1, of + 1)]
    assert sorted(chain(*parts), key=lambda one: int(one.utt[1:])) == UTTERANCES
    if of == 3:
        assert min(map(len, parts)) > 40


def test_groups_stay_together_whatever_the_number_of_shards() -> None:
    groups: list[list[Utterance]] = [[]]
    for one in UTTERANCES:
        groups[-1].append(one)
        if sum(other.size for other in groups[-1]) >= 10:
            groups.append([])
    for of in (2, 5):
        for number in range(1, of + 1):
            held = taken(Shard(number, of), 10)
            mine = [group for group in groups if group and group[0] in held]
            assert list(chain(*mine)) == held


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "1/0", "-1/2", "a/b", "1/2/3", "1/ 2"])
def test_other_texts_are_no_shard(text: str) -> None:
    with pytest.raises(ValueError, match="expected I/N"):
        Shard.parse(text)


@pytest.fixture
def records(tmp_path: Path) -> list[ShardRecord]:
    """Of two shards with their records on disk."""
    made = []
    for number in (1, 2):
        part = Part(Shard(number, 2))
        list(part.take(UTTERANCES))
        assert part.shard is not None
        out = str(tmp_path / f"out.{number}")
        identity = {"verb": "lmscore", "--lm": "a"}
        outputs = {"--out": (out, "none")}
        size = {"total": part.total, "utterances": len(part.taken)}
        made.append(ShardRecord(out, part.shard, identity, ("asrprune",), outputs, **size))
        made[-1].write(part.taken)
        assert read_shard(out) == made[-1]
    return made


def test_the_order_comes_back(records: list[ShardRecord]) -> None:
    outputs = [taken(one.shard) for one in records]
    assert list(in_order(check_shards(records[::-1]), outputs)) == UTTERANCES
    left_out = [[one for one in output if one.size > 1] for output in outputs]
    assert list(in_order(records, left_out)) == [one for one in UTTERANCES if one.size > 1]
    with pytest.raises(InputError, match=r"utterance u\d+; expected the utterances of its record"):
        list(in_order(records, outputs[::-1]))


def test_what_does_not_fit_together_is_named(records: list[ShardRecord]) -> None:
    one, two = records
    for wrong, message in (
        ([one], r"no shard 2/2 beside it; expected all shards"),
        ([one, two, two], r"shard 2/2; expected it once"),
        ([one, replace(two, identity={**two.identity, "--lm": "b"})], r'--lm "b"; expected "a"'),
        ([one, replace(two, shard=Shard(2, 3))], r"shard 2/3; expected shards of 2"),
        ([one, replace(two, outputs={})], r"shard 2/2, which has not come to its end"),
        ([one, replace(two, total=300)], r"place 200 of 300 in no shard"),
        ([one, replace(two, utterances=3)], r"expected 3, as its first line says"),
    ):
        with pytest.raises(InputError, match=message):
            check_shards(wrong)


def test_an_utterance_in_two_shards_or_in_none_is_named(records: list[ShardRecord]) -> None:
    one, two = records
    lines = list(two.lines())
    first = next(one.lines())
    for changed in ([(first[0], "x"), *lines], [(first[0] + 10**6, first[1]), *lines]):
        replace(two, utterances=len(lines) + 1).write(sorted(changed))
        with pytest.raises(InputError, match=r"utterance \w+ again; expected it in"):
            check_shards([one, read_shard(two.out)])
    replace(two, utterances=len(lines) - 1).write(lines[1:])
    with pytest.raises(InputError, match=rf"place {lines[0][0]} of 200 in no shard"):
        check_shards([one, read_shard(two.out)])


def test_a_damaged_record_is_refused(records: list[ShardRecord]) -> None:
    path = Path(records[0].path)
    whole = path.read_text()
    for damaged in ("", "{}\n", whole.replace("lmscore", "rescore", 1), whole + "3 u3\n"):
        path.write_text(damaged)
        with pytest.raises(InputError):
            list(read_shard(records[0].out).lines())
    path.unlink()
    with pytest.raises(InputError, match=r"no out.1.shard beside it"):
        read_shard(records[0].out)
