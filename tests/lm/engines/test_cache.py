"""Code that was compiled is kept only where nobody else can put any."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from asrprune.lm.engines import cache
from asrprune.lm.engines.cache import CHOSEN, cache_folder, open_to_others, private_cache

NOBODY = 65534

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")


@pytest.fixture(autouse=True)
def _forget():
    cache._checked.cache_clear()
    yield
    cache._checked.cache_clear()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o755)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_for_this_user_alone_whatever_the_umask(home: Path) -> None:
    before = os.umask(0)
    try:
        folder = private_cache()
    finally:
        os.umask(before)
    assert folder == home / ".cache/asrprune/compiled"
    assert {mode(path) for path in (folder, folder.parent, home / ".cache")} == {0o700}
    home.parent.chmod(0o777)  # above the home
    cache._checked.cache_clear()
    assert private_cache() == folder


@pytest.mark.parametrize("place", ["", ".cache", ".cache/asrprune", ".cache/asrprune/compiled"])
@pytest.mark.parametrize("way", ["all", "a group", "owner"])
def test_where_others_can_write_it_is_not_used(
    way: str, place: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert private_cache() is not None
    cache._checked.cache_clear()
    folder = home / place
    if way == "all":
        folder.chmod(0o707)
    elif os.getuid() != 0:
        pytest.skip("only root gives files away")
    elif way == "a group":
        os.chown(folder, -1, 12345)
        folder.chmod(0o770)
    else:
        os.chown(folder, NOBODY, -1)
    for _ in range(2):
        assert private_cache() is None
    assert len(caplog.records) == 1
    assert f"not kept for the next start: {folder} " in caplog.text


def test_a_sticky_folder_above_is_no_harm_and_one_that_is_not_is(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = home.parent / "shared"
    shared.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared))
    shared.chmod(0o1777)
    assert private_cache() == shared / "asrprune/compiled"
    (shared / "asrprune/compiled").chmod(0o1777)  # the folder itself
    assert "can be written by all" in open_to_others(shared / "asrprune/compiled")
    cache._checked.cache_clear()
    shared.chmod(0o777)
    assert private_cache() is None


def test_links_are_followed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, mine = home.parent / "shared", home.parent / "mine"
    for folder in (shared, mine):
        folder.mkdir(mode=0o700)
    (shared / "asrprune").mkdir()
    (home / ".cache").symlink_to(shared)
    assert private_cache() == shared / "asrprune/compiled"
    cache._checked.cache_clear()
    shared.chmod(0o777)
    assert private_cache() is None
    (home / ".cache").unlink()
    (home / ".cache").symlink_to(mine)
    cache._checked.cache_clear()
    assert private_cache() == mine / "asrprune/compiled"


@as_root
def test_the_users_own_group_may_write(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = private_cache()
    assert folder is not None
    folder.parent.chmod(0o770)
    me = pwd.getpwuid(os.getuid())
    for name, members, harmless in (
        (me.pw_name, [], True),
        (me.pw_name, [me.pw_name], True),
        (me.pw_name, [me.pw_name, "eve"], False),
        ("staff", [], False),
    ):
        group = SimpleNamespace(gr_name=name, gr_gid=me.pw_gid, gr_mem=members)
        monkeypatch.setattr("grp.getgrgid", lambda _, group=group: group)
        assert (open_to_others(folder) == "") == harmless, (name, members)
    group = SimpleNamespace(gr_name=me.pw_name, gr_gid=me.pw_gid, gr_mem=[])
    monkeypatch.setattr("grp.getgrgid", lambda _: group)
    monkeypatch.setattr(os, "listxattr", lambda *_, **__: ["system.posix_acl_access"])
    assert "can be written by group" in open_to_others(folder)


def test_no_home_and_no_room_are_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (home / ".cache").write_text("a file")
    assert private_cache() is None
    assert "Not a directory" in caplog.text or "File exists" in caplog.text

    def lost() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", lost)
    with pytest.raises(RuntimeError):
        cache_folder()
    assert private_cache() is None
    assert len(caplog.records) == 2


def test_choices_are_not_kept_with_what_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled, chosen = private_cache(), private_cache(CHOSEN)
    assert compiled == tmp_path / "asrprune/compiled"
    assert chosen == tmp_path / "asrprune/engines"
