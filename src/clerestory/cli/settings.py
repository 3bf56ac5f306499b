"""Settings by name: ``--set NAME=VALUE`` on the command line, and ``--settings``, which lists them."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from rich.table import Table
from rich.text import Text

from clerestory.core.codec import decode, encode
from clerestory.core.errors import ConfigError, SettingError, closest
from clerestory.core.files import read_problem
from clerestory.core.settings import setting_range

T = TypeVar("T")


def merged_settings(
    file: Path | None, options: Mapping[str, Any], pairs: Sequence[str], config: type
) -> dict[str, Any]:
    """The settings that a command was given: an option wins over the file, and the file over the default.

    Options that were not given are None, so that they cannot be mistaken for a default. A pair is written as
    ``name=value``; ``model.experts=8`` sets ``experts`` in the table ``model``. Values of pairs are written as in TOML;
    a value that is not valid TOML is a string, so quotes may be omitted.

    Args:
        file: a TOML file, or None.
        options: the command's own options by the name of their setting.
        pairs: of ``--set``.
        config: the configuration class, whose settings may be named.

    Raises:
        ConfigError: the file cannot be read; a pair without ``=``; an unknown setting (names the closest ones); or a
            setting with two different values on the command line.
    """
    settings = read_toml(file) if file else {}
    given = {name: value for name, value in options.items() if value is not None}
    for pair in pairs:
        name, value = _pair(pair, config)
        if name in given and given[name] != value:
            raise ConfigError(
                f"the setting {name} is given as {given[name]!r} and as {value!r}", "give it once on the command line"
            )
        given[name] = value
    for name, value in given.items():
        table, _, leaf = name.rpartition(".")
        inner = settings.setdefault(table, {}) if table else settings
        if isinstance(inner, dict):  # the decoder rejects anything else
            inner[leaf] = value
    return settings


def read_settings(config: type[T], file: Path | None, options: Mapping[str, Any], pairs: Sequence[str]) -> T:
    """The configuration that a command was given; arguments as for ``merged_settings``.

    Raises:
        ConfigError: a setting is invalid; names it as it was typed: ``--steps``, ``--set batch_size``, or its file.
    """
    settings = merged_settings(file, options, pairs, config)
    typed = {name: f"{file}: {name}" for name in names(config)} if file else {}
    typed |= {pair.partition("=")[0]: f"--set {pair.partition('=')[0]}" for pair in pairs}
    typed |= {name: f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None}
    with settings_as_typed(typed):
        return decode(config, settings, str(file) if file else "")


@contextmanager
def settings_as_typed(typed: Mapping[str, str]) -> Iterator[None]:
    """Name an invalid setting in the words of the command line, such as ``--reply-tokens`` for max_reply_tokens."""
    try:
        yield
    except SettingError as error:
        name, bracket, item = error.setting.partition("[")
        raise error.at("", typed[name] + bracket + item) if name in typed else error from None


def _pair(pair: str, config: type) -> tuple[str, Any]:
    """Name and value of ``name=value``."""
    known = names(config)
    name, equals, text = pair.partition("=")
    if not equals:
        raise ConfigError(f"--set {pair!r} has no value", "write it as --set name=value, such as --set seed=1")
    if name not in known:
        same_leaf = [each for each in known if each.rpartition(".")[2] == name.rpartition(".")[2]]
        near = same_leaf or closest(name, known) or closest(f"model.{name}", known)
        raise ConfigError(f"there is no setting {name!r}", f"the settings are {', '.join(known)}", near)
    return name, _value(text)


def names(config: type) -> list[str]:
    """Every setting of a configuration class; those of an inner table as ``table.name``."""
    hints, found = get_type_hints(config), []
    for field in fields(config):
        inner = hints[field.name]
        if is_dataclass(inner):
            found += [f"{field.name}.{name}" for name in names(inner)]  # type: ignore[arg-type]  # a class, not an instance
        else:
            found.append(field.name)
    return found


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        name: with its table, such as ``model.experts``.
        default: as in TOML; ``-`` if it has none.
        meaning: from the docstring of the configuration class.
        accepts: its range or its choices; empty without a restriction.
    """

    name: str
    default: str
    meaning: str
    accepts: str = ""


def explained(config: type, table: str = "") -> list[Setting]:
    """Every setting of a configuration class, those of inner tables last."""
    meanings, hints = _attributes(config), get_type_hints(config)
    own, inner = [], []
    for field in fields(config):
        if is_dataclass(hints[field.name]):
            inner += explained(hints[field.name], f"{table}{field.name}.")
        else:
            default = "-" if field.default in (None, "") else json.dumps(field.default)
            accepts = _accepts(config, field.name, hints[field.name])
            own.append(Setting(table + field.name, default, meanings[field.name], accepts))
    return [*own, *inner]


def settings_table(config: type) -> tuple[Any, Table]:
    """Every setting of a configuration class, as JSON data and as a table."""
    rows = explained(config)
    table = Table("setting", "default", "accepts", "meaning", box=None)
    for row in rows:
        table.add_row(row.name, Text(row.default), row.accepts, Text(row.meaning))
    return encode(rows), table


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file.

    Raises:
        ConfigError: there is no such file, or it is not valid TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", "give the path of a TOML file") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {read_problem(error)}", "give the path of a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", "correct the line it names") from None


def _accepts(config: type, name: str, hint: Any) -> str:
    bounds = setting_range(config, name)
    if bounds is not None:
        return str(bounds)
    options = [hint, *get_args(hint)]
    choices = next((get_args(option) for option in options if get_origin(option) is Literal), ())
    return ", ".join(map(str, choices))


def _attributes(config: type) -> dict[str, str]:
    """Name → meaning from the ``Attributes:`` section of a Google-style docstring."""
    section = (inspect.getdoc(config) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", section, re.MULTILINE | re.DOTALL)
    return {name: " ".join(meaning.split()).replace("``", "`") for name, meaning in entries}


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
