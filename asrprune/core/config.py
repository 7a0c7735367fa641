"""A frozen dataclass as configuration: read from JSON values, changed by ``key=value``.

The dataclass's defaults are the only defaults. A field is a bool, int, float or str, a tuple of
one kind (``tuple[float, ...]``, in JSON a list), free settings (``Mapping[str, Any]``, in JSON an
object of scalars), objects of one kind by name (``Mapping[str, LinearShape]``), another such
dataclass, or an Optional of any of these. The key of a nested field, or of one of the free
settings, is dotted, as in ``optimizer.lr``. Whole numbers are those of 64 bits.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import functools
import json
import math
import os
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Optional, TypeVar, Union

from asrprune.errors import InputError

Config = TypeVar("Config")
Values = Mapping[str, Any]
_SCALAR = Union[bool, int, float, str, None]
_LARGEST = 2**63
LONGEST_VALUE = 80
"""A message shows so many characters of a value."""


def from_json(
    config_type: type[Config],
    value: Any,
    path: Union[str, os.PathLike[str]],
    overrides: Iterable[str] = (),
    start: Optional[Config] = None,
) -> Config:
    """The configuration in a JSON file's ``value``, with ``key=value`` overrides on top.

    Keys that are not given keep the values of ``start``, by default the type's defaults. An
    override's value is JSON, or else a string. ``path`` is only named in messages. Raises
    InputError for an unknown key, a wrong type or an impossible value in the file, ValueError for
    the same in an override.
    """
    try:
        settings = _defaults(config_type, "") if start is None else flat(start)
        settings |= _flat(config_type, value, "")
        from_file = _build(config_type, settings, "")
    except ValueError as problem:
        found, _, expected = str(problem).partition("; expected ")
        raise InputError(path, None, found, expected or "a valid configuration") from None
    return replaced(from_file, {}, overrides)


def from_values(config_type: type[Config], values: Values) -> Config:
    """The configuration of nested ``values``; keys that are not given keep their defaults.

    Raises ValueError for an unknown key, a wrong type or an impossible value.
    """
    settings = _defaults(config_type, "") | _flat(config_type, values, "")
    return _build(config_type, settings, "")


def replaced(instance: Config, values: Values, overrides: Iterable[str] = ()) -> Config:
    """``instance`` with what nested ``values`` state and ``key=value`` overrides on top.

    Nested objects need to state only what differs; free settings are replaced as a whole, but an
    override changes one of them. Raises ValueError as ``from_values`` does.
    """
    kind = type(instance)
    settings = flat(instance) | _flat(kind, values, "")
    for text in overrides:
        _override(kind, settings, text)
    return _build(kind, settings, "")


def to_json(config: Any) -> dict[str, Any]:
    """Plain JSON values of every field, defaults written out; ``from_json`` is the inverse."""
    plain: dict[str, Any] = _plain(config)
    return plain


_WIDEST = 45  # keys with longer defaults do not move the others' meanings to the right


def explained(defaults: Mapping[str, Any], meanings: Mapping[str, str]) -> str:
    """A line a key, ``key=default  meaning``, for a help text; a key without a meaning is an error.

    >>> print(explained({"hold": 0.5, "scope": "global"}, {"hold": "a share", "scope": "of what"}))
    hold=0.5        a share
    scope="global"  of what
    """
    stated = {key: f"{key}={json.dumps(value)}" for key, value in defaults.items()}
    width = max((len(text) for text in stated.values() if len(text) <= _WIDEST), default=0)
    return "\n".join(f"{stated[key]:<{width}}  {meanings[key]}" for key in defaults)


def flat(config: Any) -> dict[str, Any]:
    """Dotted key -> value of every field; free settings are one value.

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


@functools.cache
def _types(config_type: Any) -> Mapping[str, Any]:
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


def _defaults(config_type: Any, prefix: str) -> dict[str, Any]:
    """Dotted key -> default of every field that has one."""
    defaults: dict[str, Any] = {}
    types = _types(config_type)
    for field in dataclasses.fields(config_type):
        key = prefix + field.name
        value = field.default
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        if dataclasses.is_dataclass(value):
            defaults.update({f"{key}.{name}": inner for name, inner in flat(value).items()})
        elif value is not dataclasses.MISSING:
            defaults[key] = value
        elif dataclasses.is_dataclass(types[field.name]):
            defaults.update(_defaults(types[field.name], f"{key}."))
    return defaults


def _flat(config_type: Any, value: Any, prefix: str) -> dict[str, Any]:
    """Dotted key -> checked setting, from JSON values, nested or with dotted keys."""
    if not isinstance(value, Mapping):
        what = prefix.rstrip(".") or "the configuration"
        raise ValueError(f"{what} is {shown(value)}, not a JSON object")
    settings: dict[str, Any] = {}
    types = _types(config_type)
    for name, inner in value.items():
        part, dot, rest = name.partition(".")
        if part in types and dataclasses.is_dataclass(types[part]):
            found = _flat(types[part], {rest: inner} if dot else inner, f"{prefix}{part}.")
        elif name in types:
            found = {prefix + name: _checked(prefix + name, inner, types[name])}
        else:
            raise ValueError(_unknown(f"{prefix}{name}", _keys(config_type, prefix)))
        for key in found:
            if key in settings:
                raise ValueError(f"{key} is given twice")
        settings.update(found)
    return settings


def _override(config_type: Any, settings: dict[str, Any], text: str) -> None:
    """Put one ``key=value`` into the flat ``settings``."""
    key, equals, raw = text.partition("=")
    if not equals or not key:
        raise ValueError(f"setting {text!r}; expected KEY=VALUE")
    try:
        value = json.loads(raw)
    except json.JSONDecodeError:
        value = raw
    keys = _keys(config_type, "")
    if key in keys:
        settings[key] = _checked(key, value, keys[key])
        return
    for free, kind in keys.items():
        if _is_free(kind) and key.startswith(f"{free}."):
            changed = {**settings[free], key[len(free) + 1 :]: value}
            settings[free] = _checked(free, changed, kind)
            return
    raise ValueError(_unknown(key, keys))


def _build(config_type: type[Config], settings: Values, prefix: str) -> Config:
    arguments: dict[str, Any] = {}
    for name, kind in _types(typing.cast(Any, config_type)).items():
        if dataclasses.is_dataclass(kind):
            nested: Any = kind
            arguments[name] = _build(nested, settings, f"{prefix}{name}.")
        elif prefix + name in settings:
            arguments[name] = settings[prefix + name]
        else:
            raise ValueError(f"no {prefix}{name}; expected a setting that has no default")
    return config_type(**arguments)


def _unknown(key: str, keys: Iterable[str]) -> str:
    known = list(keys)
    same_end = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    close = same_end or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"unknown key {key!r}{hint} known: {', '.join(known)}"


def _is_free(kind: Any) -> bool:
    return typing.get_origin(kind) is collections.abc.Mapping


def _checked(key: str, value: Any, kind: Any) -> Any:
    """``value`` as a field of type ``kind`` holds it.

    Exact types: true is not a number; an int is a float, but not the other way round.
    """
    if typing.get_origin(kind) is Union:
        inner = [one for one in typing.get_args(kind) if one is not type(None)]
        if typing.get_origin(inner[0]) is not None or dataclasses.is_dataclass(inner[0]):
            return None if value is None else _checked(key, value, inner[0])
    if dataclasses.is_dataclass(kind):
        nested: Any = kind
        prefix = f"{key}."
        settings = _defaults(kind, prefix) | _flat(kind, value, prefix)
        return _build(nested, settings, prefix)
    if _is_free(kind):
        if not isinstance(value, Mapping):
            raise ValueError(f"{key} is {shown(value)}, not a JSON object")
        item = typing.get_args(kind)[1]
        item = _SCALAR if item is Any else item
        return {name: _checked(f"{key}.{name}", one, item) for name, one in value.items()}
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{key} is {shown(value)}; expected a list of {_name(item)}")
        return tuple(_checked(f"{key}[{place}]", one, item) for place, one in enumerate(value))
    allowed = typing.get_args(kind) if typing.get_origin(kind) is Union else (kind,)
    if type(value) is int and not -_LARGEST <= value < _LARGEST:
        raise ValueError(f"{key} is {shown(value)}; expected a number of 64 bits")
    if type(value) is int and float in allowed and int not in allowed:
        return float(value)
    if type(value) not in allowed:
        names = " or ".join(_name(each) for each in allowed)
        raise ValueError(f"{key} is {shown(value)}; expected {names}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key} is {value}; expected a finite number")
    return value


def _name(kind: Any) -> str:
    return "null" if kind is type(None) else str(kind.__name__)


def shown(value: Any) -> str:
    """A JSON value for a message, its begin if it is long."""
    try:
        text = json.dumps(value, default=repr)
    except RecursionError:
        return "a value nested deep"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {field.name: _plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
