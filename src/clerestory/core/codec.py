"""Frozen values to plain JSON data and back; the same reader loads configuration files and reports unknown keys."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from clerestory.core.errors import ConfigError, SettingError, closest
from clerestory.core.settings import one_of

T = TypeVar("T")
_TYPE_NAMES = {int: "an integer", float: "a number", str: "text", bool: "true or false"}

Fact = str | int | float | bool | tuple[str | int | float | bool, ...]
V = TypeVar("V", covariant=True)
OMIT_DEFAULT = types.MappingProxyType({"omit_default": True})
"""Metadata of a field that was added later: ``encode`` leaves it out at its default, so that old digests stay."""


class _Frozen(Mapping[str, V]):
    """An immutable, hashable mapping, sorted by key."""

    __slots__ = ("_items",)
    _items: tuple[tuple[str, V], ...]

    def __getitem__(self, key: str) -> V:
        place = bisect_left(self._items, (key,))  # notes of an audit are tens of thousands
        if place < len(self._items) and self._items[place][0] == key:
            return self._items[place][1]
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(self._items)

    def __eq__(self, other: object) -> bool:
        return dict(self) == dict(other) if isinstance(other, Mapping) else NotImplemented

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"

    def __reduce__(self) -> tuple[type[_Frozen[V]], tuple[dict[str, V]]]:
        return type(self), (dict(self),)

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self._items)


class Tags(_Frozen[str]):
    """An immutable, hashable, sorted mapping of short strings, such as ``{"style": "openmoji"}``."""

    __slots__ = ()

    def __init__(self, items: Mapping[str, str] | None = None, /, **more: str) -> None:
        merged = {**(items or {}), **more}
        self._items = tuple(sorted((str(k), str(v)) for k, v in merged.items()))


class Facts(_Frozen[Fact]):
    """An immutable, hashable, sorted mapping of names to typed values: numbers are numbers, lists are tuples.

    Raises:
        TypeError: a value is not a string, a number, a boolean or a tuple of these.
        ValueError: a number is not finite.
    """

    __slots__ = ()

    def __init__(self, items: Mapping[str, Fact] | None = None, /, **more: Fact) -> None:
        merged = {**(items or {}), **more}
        self._items = tuple(sorted((str(k), _fact(str(k), v)) for k, v in merged.items()))

    def text(self, name: str, default: str = "") -> str:
        """A fact that is a string; ``default`` if there is no fact of this name."""
        value = self.get(name, default)
        if not isinstance(value, str):
            raise TypeError(f"the fact {name!r} is {value!r}, not a string")
        return value

    def number(self, name: str, default: float = 0) -> float:
        """A fact that is a number; ``default`` if there is no fact of this name."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"the fact {name!r} is {value!r}, not a number")
        return value

    def integer(self, name: str, default: int = 0) -> int:
        """A fact that is an integer; ``default`` if there is no fact of this name."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"the fact {name!r} is {value!r}, not an integer")
        return value

    def string_items(self, name: str) -> tuple[str, ...]:
        """A fact that is a tuple, its items as strings; empty if there is no fact of this name."""
        value = self.get(name, ())
        if not isinstance(value, tuple):
            raise TypeError(f"the fact {name!r} is {value!r}, not a list")
        return tuple(str(item) for item in value)


def _fact(name: str, value: Any) -> Fact:
    if isinstance(value, list | tuple):
        return tuple(_scalar(name, item) for item in value)
    return _scalar(name, value)


def _scalar(name: str, value: Any) -> str | int | float | bool:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"the fact {name!r} is {value}: a fact is a finite number")
        return value
    raise TypeError(f"the fact {name!r} is a {type(value).__name__}: a fact is a string, a number, a boolean or a list")


def encode(value: Any) -> Any:
    """Plain JSON data (dict, list, str, int, float, bool, None) of a value."""
    if value is None or isinstance(value, str | bool | int | float):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {f.name: encode(v) for f, v in fields if not f.metadata.get("omit_default") or v != f.default}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")


def decode(kind: type[T], data: Any, where: str = "") -> T:
    """Read plain JSON or TOML data as the data class ``kind``.

    Raises:
        ConfigError: an unknown key (with the closest known ones), a missing key or a wrong type; the
            message names the location, such as ``policy.toml: rule 1.metric``.
    """
    try:
        return typing.cast(T, _decode(kind, data, ""))
    except SettingError as error:
        raise error.at(f"{where}: " if where else f"{kind.__name__}.") from error.__cause__


def _decode(kind: Any, data: Any, where: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return data
    if origin in (Union, types.UnionType):
        if data is None and type(None) in args:
            return None
        options = [option for option in args if option is not type(None)]
        for option in options[:-1]:
            try:
                return _decode(option, data, where)
            except ConfigError:
                continue
        return _decode(options[-1], data, where)
    if origin is Literal:
        if data not in args:
            near = closest(str(data), [str(a) for a in args])
            raise SettingError(where, f"must be {one_of(args)}, not {data!r}", closest=near)
        return data
    if origin is tuple:
        return _decode_tuple(args, data, where)
    if kind in (Tags, Facts) or (origin is not None and issubclass(origin, Mapping)):
        return _decode_mapping(kind, args, data, where)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data, where)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    is_other_bool = isinstance(data, bool) and kind is not bool
    _expect(isinstance(data, kind) and not is_other_bool, where, _TYPE_NAMES.get(kind, kind.__name__), data)
    return data


def _decode_mapping(kind: Any, args: tuple[Any, ...], data: Any, where: str) -> Any:
    _expect(isinstance(data, Mapping), where, "a table", data)
    if kind is Tags:
        return Tags({str(k): _decode(str, v, _inner(where, str(k))) for k, v in data.items()})
    if kind is Facts:
        return Facts({str(k): _decode_fact(v, _inner(where, str(k))) for k, v in data.items()})
    return {str(k): _decode(args[1], v, _inner(where, str(k))) for k, v in data.items()}


def _decode_fact(data: Any, where: str) -> Fact:
    if isinstance(data, list | tuple):
        _expect(all(isinstance(item, str | bool | int | float) for item in data), where, "a list of plain values", data)
        return tuple(data)
    _expect(isinstance(data, str | bool | int | float), where, "a string, a number, a boolean or a list", data)
    return typing.cast(Fact, data)


def _decode_tuple(args: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        # A shell takes the quotes from ["a", "b"]; what is left is not TOML and arrives as the text [a, b].
        items = [item.strip("'\" ") for item in data.strip("[] ").split(",")] if isinstance(data, str) else [data]
        example = json.dumps(items, ensure_ascii=False, default=str)
        fix = f"write it in square brackets, such as {example}; in a shell put the whole setting into single quotes"
        raise SettingError(where, f"must be a list, not {data!r}", fix)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_decode(args[0], item, _item(where, args[0], i)) for i, item in enumerate(data))
    _expect(len(data) == len(args), where, f"a list of {len(args)} items", data)
    return tuple(_decode(a, item, f"{where}[{i}]") for i, (a, item) in enumerate(zip(args, data, strict=True)))


@cache
def _type_hints(kind: type) -> dict[str, Any]:
    """The types of the fields. An evidence has hundreds of values of the same few classes."""
    return typing.get_type_hints(kind)


def _decode_dataclass(kind: type, data: Any, where: str) -> Any:
    _expect(isinstance(data, Mapping), where, "a table", data)
    hints = _type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    for key in data:
        if key not in fields:
            raise SettingError(
                where,
                f"has no setting {key!r}",
                f"its settings are {', '.join(fields)}",
                closest(str(key), fields),
            )
    for name, field in fields.items():
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in data and not optional:
            raise SettingError(where, f"lacks the setting {name!r}", f"add {name} to it")
    values = {key: _decode(hints[key], item, _inner(where, key)) for key, item in data.items()}
    try:
        return kind(**values)
    except SettingError as error:  # of the value itself, which does not know its place in the file
        raise error.at("", _inner(where, error.setting)) from error
    except ConfigError as error:
        if not where:
            raise
        raise ConfigError(f"{where}: {error.message}", error.fix, error.closest) from error


def _expect(is_valid: bool, where: str, expected: str, value: Any) -> None:
    if not is_valid:
        raise SettingError(where, f"must be {expected}, not {value!r}", f"give {expected}")


def _inner(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _item(where: str, kind: Any, position: int) -> str:
    """An item of a list: the tables ``[[rules]]`` of a file are ``rule 1``, ``rule 2``; other values ``steps[0]``."""
    is_table = isinstance(kind, type) and dataclasses.is_dataclass(kind)
    return f"{where.removesuffix('s')} {position + 1}" if is_table else f"{where}[{position}]"
