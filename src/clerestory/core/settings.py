"""Settings with ranges: declared once as annotations, read by the checks, the command line and the documentation.

A configuration is a frozen dataclass whose fields may carry a ``Range``, and which checks itself when it is built::

    @dataclass(frozen=True, slots=True)
    class TrainConfig:
        batch_size: Annotated[int, Range(1)] = 256
        max_grad_norm: Annotated[float, Range(0, exclusive_minimum=True)] | None = 1.0

        def __post_init__(self) -> None:
            check_settings(self)
"""

from __future__ import annotations

import math
import types
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from clerestory.core.errors import SettingError, closest

MAX_INTEGER = 2**53 - 1  # of canonical JSON (RFC 8785), in which settings are digested
ANY_NUMBER = "any number"
TYPE_NAMES = {
    int: "an integer",
    float: "a number",
    str: "text",
    bool: "True or False",
    tuple: "a tuple",
}


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that a setting accepts.

    Attributes:
        minimum, maximum: the bounds; None if there is none.
        exclusive_minimum, exclusive_maximum: whether the bound itself is excluded.
    """

    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.minimum is None or (value > self.minimum if self.exclusive_minimum else value >= self.minimum)
        below = self.maximum is None or (value < self.maximum if self.exclusive_maximum else value <= self.maximum)
        return above and below and not math.isnan(value)

    def __str__(self) -> str:
        low = _side("above" if self.exclusive_minimum else "at least", self.minimum)
        high = _side("below" if self.exclusive_maximum else "at most", self.maximum)
        return " and ".join(bound for bound in (low, high) if bound) or ANY_NUMBER


Seed = Annotated[int, Range(0)]
Threads = Annotated[int, Range(0, 1024)]


@cache
def setting_types(config: type) -> dict[str, Any]:
    """The annotation of every setting of a configuration, with its ``Annotated`` metadata."""
    hints = get_type_hints(config, include_extras=True)
    return {field.name: hints[field.name] for field in fields(config) if field.init}


@cache
def setting_range(config: type, name: str) -> Range | None:
    """The range of one setting, None if it has none."""
    return _range_of(setting_types(config)[name])


def _side(words: str, bound: float | None) -> str:
    """One side of a range, with the bound as people write it: 1,000,000 rather than 1e+06."""
    if bound is None:
        return ""
    return f"{words} {bound:,.0f}" if abs(bound) >= 1e5 else f"{words} {bound:g}"


def one_of(choices: Sequence[Any]) -> str:
    """The choices as the end of "must be": ``a, b or c``."""
    *most, last = map(str, choices)
    return f"{', '.join(most)} or {last}" if most else last


def check_settings(config: Any) -> None:
    """Check every setting of a configuration against its annotation.

    Numbers must be finite and lie within their ``Range``, integers must be integers that JSON can hold, a ``Literal``
    must be one of its values, and every other value must have the type of its annotation.

    Raises:
        SettingError: names the setting, its value and what it accepts.
    """
    kind: type = type(config)
    for name, annotation in setting_types(kind).items():
        try:
            _check(name, getattr(config, name), annotation)
        except SettingError as error:
            raise error.at(f"{kind.__name__}.") from None


def check_number(where: str, value: float, accepted: Range) -> None:
    """Check one number that is not part of a configuration, such as a command-line option.

    Raises:
        SettingError: it is not finite or lies outside the range; ``where`` names it.
    """
    _check(where, value, Annotated[float, accepted])


def _check(where: str, value: Any, annotation: Any) -> None:
    accepted = _accepted(annotation)
    if not any(_is_of(value, kind) for kind in accepted):
        _reject(where, value, accepted)
    if isinstance(value, tuple):
        for i, item in enumerate(value):
            for inner in _items(accepted, i):
                _check(f"{where}[{i}]", item, inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(where, value, _range_of(annotation))


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value has one of the plain types; an integer is a number, too, but a truth value is neither."""
    if kind is Any:
        return True
    if get_origin(kind) is Literal:
        return any(value == option and type(value) is type(option) for option in get_args(kind))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, bool):
        return kind is bool
    if get_origin(kind) is tuple and isinstance(value, tuple):
        arguments = get_args(kind)
        return arguments[-1] is Ellipsis or len(value) == len(arguments)
    return isinstance(value, get_origin(kind) or kind)


def _reject(where: str, value: Any, accepted: Sequence[Any]) -> NoReturn:
    choices = [option for kind in accepted if get_origin(kind) is Literal for option in get_args(kind)]
    if choices:
        near = closest(str(value), [str(option) for option in choices])
        raise SettingError(where, f"must be {one_of(choices)}, not {value!r}", closest=near)
    names = [_type_name(kind) for kind in accepted if kind is not type(None)]
    raise SettingError(where, f"must be {' or '.join(dict.fromkeys(names))}, not {value!r}")


def _type_name(kind: Any) -> str:
    plain = get_origin(kind) or kind
    return TYPE_NAMES.get(plain, f"a {plain.__name__}")


def _check_number(where: str, value: float, range_: Range | None) -> None:
    fix = f"choose a number that is {range_}" if range_ and str(range_) != ANY_NUMBER else "choose another number"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise SettingError(where, f"must be an integer up to {MAX_INTEGER:,}, not {_shortened(value)}", fix)
    if not math.isfinite(value):
        expected = f"finite and {range_}" if range_ else "a finite number"
        raise SettingError(where, f"must be {expected}, not {value!r}", fix)
    if range_ is not None and value not in range_:
        raise SettingError(where, f"must be {range_}, not {value!r}", fix)


def _shortened(value: int) -> str:
    """An integer in decimal; one of many digits only by its size, as Python refuses to print it."""
    return str(value) if value.bit_length() < 128 else f"an integer of {value.bit_length():,} bits"


def _accepted(annotation: Any) -> list[Any]:
    """The plain types of an annotation, the members of a union one by one."""
    if get_origin(annotation) is Annotated:
        return _accepted(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for member in get_args(annotation) for kind in _accepted(member)]
    return [annotation]


def _items(accepted: list[Any], position: int) -> list[Any]:
    """The annotations of one item of a tuple."""
    annotations = []
    for kind in accepted:
        if get_origin(kind) is tuple:
            arguments = get_args(kind)
            if len(arguments) == 2 and arguments[1] is Ellipsis:
                annotations.append(arguments[0])
            elif position < len(arguments):
                annotations.append(arguments[position])
    return annotations


def _range_of(annotation: Any) -> Range | None:
    if get_origin(annotation) is Annotated:
        return next((extra for extra in get_args(annotation)[1:] if isinstance(extra, Range)), None)
    if get_origin(annotation) in (Union, types.UnionType):
        return next((bounds for member in get_args(annotation) if (bounds := _range_of(member))), None)
    return None
