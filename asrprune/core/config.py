"""A frozen dataclass as configuration: read from JSON values, changed by ``key=value``.

The dataclass's defaults are the only defaults. Fields may be bool, int, float, str, Optional of
these, or another such dataclass; a nested field's key is dotted, as in ``optimizer.lr``.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, Union

from asrprune.errors import InputError

Config = TypeVar("Config")
Values = Mapping[str, Any]


def from_json(
    config_type: type[Config],
    value: Any,
    path: Union[str, os.PathLike[str]],
    overrides: Iterable[str] = (),
) -> Config:
    """The configuration in a JSON file's ``value``, with ``key=value`` overrides on top.

    Keys that are not given keep their defaults. An override's value is JSON, or else a string.
    ``path`` is only named in messages. Raises InputError for an unknown key, a wrong type or an
    impossible value in the file, ValueError for the same in an override.
    """
    try:
        given = _flat(config_type, value, "")
        from_file = _build(config_type, given, "")
    except ValueError as problem:
        raise InputError(path, None, str(problem), "a valid configuration") from None
    changes = dict(_parse_override(text) for text in overrides)
    if not changes:
        return from_file
    for key, setting in changes.items():
        _check(config_type, key, setting)
    return _build(config_type, {**given, **changes}, "")


def from_values(config_type: type[Config], values: Values) -> Config:
    """The configuration of nested ``values``; keys that are not given keep their defaults.

    Raises ValueError for an unknown key, a wrong type or an impossible value.
    """
    return _build(config_type, _flat(config_type, values, ""), "")


def to_json(config: Any) -> dict[str, Any]:
    """Plain JSON values of every field, defaults written out; ``from_json`` is the inverse."""
    return dataclasses.asdict(config)


def flat(config: Any) -> dict[str, Any]:
    """Dotted key -> value of every field.

    >>> from asrprune.core.weights import ScoreWeights
    >>> flat(ScoreWeights())["acoustic"]
    1.0
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            values.update({f"{field.name}.{key}": inner for key, inner in flat(value).items()})
        else:
            values[field.name] = value
    return values


def first_difference(one: Values, other: Values) -> str:
    """The first dotted key in which two JSON forms differ, "" if they are equal.

    >>> first_difference({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}})
    'b.c'
    """
    for key in [*one, *(key for key in other if key not in one)]:
        left, right = one.get(key), other.get(key)
        if left == right and (key in one) == (key in other):
            continue
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            return f"{key}.{first_difference(left, right)}"
        return key
    return ""


def _types(config_type: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(config_type)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_type)}


def _keys(config_type: Any, prefix: str) -> dict[str, Any]:
    """Dotted key -> type of every field that is not itself a dataclass."""
    keys: dict[str, Any] = {}
    for name, kind in _types(config_type).items():
        if dataclasses.is_dataclass(kind):
            keys.update(_keys(kind, f"{prefix}{name}."))
        else:
            keys[prefix + name] = kind
    return keys


def _flat(config_type: Any, value: Any, prefix: str) -> dict[str, Any]:
    """Dotted key -> checked setting, from nested JSON values."""
    if not isinstance(value, Mapping):
        what = prefix.rstrip(".") or "the configuration"
        raise ValueError(f"{what} is {json.dumps(value)}, not a JSON object")
    settings: dict[str, Any] = {}
    types = _types(config_type)
    for name, inner in value.items():
        if name in types and dataclasses.is_dataclass(types[name]):
            settings.update(_flat(types[name], inner, f"{prefix}{name}."))
        elif name in types:
            _check_type(prefix + name, inner, types[name])
            settings[prefix + name] = inner
        else:
            raise ValueError(_unknown(prefix + name, _keys(config_type, prefix)))
    return settings


def _build(config_type: type[Config], settings: Values, prefix: str) -> Config:
    arguments: dict[str, Any] = {}
    for name, kind in _types(config_type).items():
        if dataclasses.is_dataclass(kind):
            nested: Any = kind
            arguments[name] = _build(nested, settings, f"{prefix}{name}.")
        elif prefix + name in settings:
            value = settings[prefix + name]
            arguments[name] = float(value) if _wants_float(kind, value) else value
    return config_type(**arguments)


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, raw = text.partition("=")
    if not equals or not key:
        raise ValueError(f"setting {text!r}; expected key=value")
    try:
        return key, json.loads(raw)
    except json.JSONDecodeError:
        return key, raw


def _check(config_type: Any, key: str, value: Any) -> None:
    keys = _keys(config_type, "")
    if key not in keys:
        raise ValueError(_unknown(key, keys))
    _check_type(key, value, keys[key])


def _unknown(key: str, keys: Iterable[str]) -> str:
    known = list(keys)
    same_end = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    close = same_end or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"unknown key {key!r}{hint} known: {', '.join(known)}"


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) is Union else (kind,)


def _wants_float(kind: Any, value: Any) -> bool:
    return float in _alternatives(kind) and type(value) is int


def _check_type(key: str, value: Any, kind: Any) -> None:
    """Exact types: true is not a number; an int is a float, but not the other way round."""
    allowed = _alternatives(kind)
    if _wants_float(kind, value) or type(value) in allowed:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key} is {value}; expected a finite number")
        return
    names = " or ".join("null" if each is type(None) else each.__name__ for each in allowed)
    raise ValueError(f"{key} is {json.dumps(value)}; expected {names}")
