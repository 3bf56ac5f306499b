"""Settings by name: ``--set NAME=VALUE`` from the command line, and what each of them does."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from clerestory.core.errors import ConfigError, closest


def with_settings(settings: dict[str, Any], pairs: Sequence[str], kind: type) -> dict[str, Any]:
    """The settings with each ``name=value`` put in its place; ``model.experts=8`` goes into the table ``model``.

    Values are written as in TOML; what is no TOML value is taken as text, so quotes may be left out.

    Args:
        settings: read from a file, or empty.
        pairs: as on the command line.
        kind: the configuration, whose settings may be named.

    Raises:
        ConfigError: no ``=``, or there is no such setting; the closest are named.
    """
    known = names(kind)
    out = {name: dict(value) if isinstance(value, dict) else value for name, value in settings.items()}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair!r} has no value", "write it as --set name=value, such as --set style=0.3")
        if name not in known:
            last = [each for each in known if each.rpartition(".")[2] == name.rpartition(".")[2]]
            near = last or closest(name, known) or closest(f"model.{name}", known)
            raise ConfigError(f"there is no setting {name!r}", f"it takes {', '.join(known)}", near)
        table, _, leaf = name.rpartition(".")
        (out.setdefault(table, {}) if table else out)[leaf] = _value(text)
    return out


def names(kind: type) -> list[str]:
    """Every setting of a configuration; those of a table in it as ``table.name``."""
    hints, found = get_type_hints(kind), []
    for field in fields(kind):
        inner = hints[field.name]
        if is_dataclass(inner):
            found += [f"{field.name}.{name}" for name in names(inner)]  # type: ignore[arg-type]  # a class, no instance
        else:
            found.append(field.name)
    return found


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name, its default as TOML writes it (``-`` where it has none), and what it does."""

    name: str
    default: str
    meaning: str


def explained(kind: type, table: str = "") -> list[Setting]:
    """Every setting of a configuration in the words of its docstring, those of inner tables after the others."""
    meanings, hints = _attributes(kind), get_type_hints(kind)
    own, inner = [], []
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            inner += explained(hints[field.name], f"{table}{field.name}.")
        else:
            default = "-" if field.default in (None, "") else json.dumps(field.default)
            own.append(Setting(table + field.name, default, meanings[field.name]))
    return [*own, *inner]


def _attributes(kind: type) -> dict[str, str]:
    """Name → meaning from the ``Attributes:`` section of a Google-style docstring."""
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", section, re.MULTILINE | re.DOTALL)
    return {name: " ".join(meaning.split()).replace("``", "`") for name, meaning in entries}


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
