"""What is said in a lhotse cut, read without lhotse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def supervisions(cut: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The supervisions of a cut as its JSON has them, in the order of their times where all have
    one; of a MixedCut those of its tracks, as lhotse gives them.

    Raises ValueError for anything but lists of objects.

    >>> first, second = {"id": "a", "start": 0.0}, {"id": "b", "start": 1.0}
    >>> [one["id"] for one in supervisions({"supervisions": [second, first]})]
    ['a', 'b']
    """
    timed = []
    for track in _objects(cut.get("tracks", [{"cut": cut}]), "tracks"):
        inner = track.get("cut")
        if not isinstance(inner, dict):
            raise ValueError("a track without a cut")
        for one in _objects(inner.get("supervisions", []), "supervisions"):
            timed.append((one.get("start"), track.get("offset", 0.0), one))
    if all(isinstance(value, (int, float)) for *times, _ in timed for value in times):
        timed.sort(key=lambda found: found[0] + found[1])
    return [one for *_, one in timed]


def _objects(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError(f"{name} of another type")
    return value
