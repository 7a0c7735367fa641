"""The limit on open files, which is raised where a command needs more."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

import pytest

from asrprune.files import allow_open_files
from asrprune.files.open_files import SPARE


@pytest.fixture
def limit() -> Iterator[int]:
    """A low one, for a while."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = 400
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, most))
    yield low
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def test_as_many_files_can_be_open_as_were_asked_for(limit: int) -> None:
    allow_open_files(2 * limit)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 2 * limit + SPARE
    with contextlib.ExitStack() as opened:
        for _ in range(limit):  # more than could be open before, whatever else is
            opened.enter_context(open("/dev/null"))


def test_a_limit_that_is_high_enough_stays(limit: int) -> None:
    allow_open_files(limit - SPARE)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == limit


def test_no_limit_stays_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    monkeypatch.setattr(resource, "setrlimit", lambda *_: pytest.fail("a limit was set"))
    allow_open_files(10**9)


@pytest.mark.parametrize(("most", "found"), [(200, 200), (resource.RLIM_INFINITY, 200 + SPARE)])
def test_no_more_than_the_system_lets(
    most: int, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [(100, most)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: limits.append(both))
    allow_open_files(200)
    assert limits[1:] == [(found, most)]
