"""Files of one run move into a folder together, and nothing else there is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from asrprune.files import written_together


def write(path: Path, text: str, *names: str) -> None:
    with written_together(path) as folder:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)


def fail(path: Path) -> None:
    with written_together(path) as folder:
        (folder / "a").write_text("half")
        raise OSError("disk full")


def test_a_new_folder_appears_whole_and_an_old_one_keeps_the_rest(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OSError, match="full"):
        fail(out)
    assert not any(tmp_path.iterdir())
    write(out, "one", "a", "deep/b")
    (out / "deep/mine").write_text("mine")
    with pytest.raises(OSError, match="full"):
        fail(out)
    assert (out / "a").read_text() == "one"
    (out / ".together.tmp").mkdir()  # killed
    (out / ".together.tmp/stale").touch()
    write(out, "two", "a", "deep/b", "c/d")
    found = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    assert {name: path.read_text() for name, path in found.items()} == {
        **dict.fromkeys(["a", "deep/b", "c/d"], "two"),
        "deep/mine": "mine",
    }
    assert not (out / ".together.tmp").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
