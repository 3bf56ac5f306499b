"""Wrong usage of a command, as one sentence with the remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any, Literal, NamedTuple, get_args, get_origin

from cyclopts import CoercionError, CycloptsError, MissingArgumentError, Token, UnusedCliTokensError, convert
from cyclopts.exceptions import RepeatArgumentError, UnknownOptionError

from clerestory.core.errors import closest

_INTEGER = re.compile(r"[+-]?\d[\d_]*")
_KINDS: dict[Any, str] = {int: "an integer", float: "a number", bool: "yes or no"}


class UsageProblem(NamedTuple):
    """What is wrong, what to do, and the names that were probably meant."""

    message: str
    fix: str
    closest: tuple[str, ...] = ()


def convert_strictly(type_: Any, tokens: Sequence[Token]) -> Any:
    """Convert the words of an option as cyclopts does, with two exceptions.

    1.5 is not an integer (cyclopts rounds it), and an empty word is not a path: ``Path("")`` is the current folder.

    Raises:
        CoercionError: a word is not a value of the type.
    """
    kinds = set(get_args(type_)) or {type_}
    if Path in kinds:
        for token in tokens:
            if not token.value.strip():
                raise CoercionError(token=token, target_type=Path)
    if int in kinds and float not in kinds:
        for token in tokens:
            if not _INTEGER.fullmatch(token.value.strip()):
                raise CoercionError(token=token, target_type=int)
    return convert(type_, tokens)


def is_folder_argument(word: str, alone: bool) -> bool:
    """Whether a word that should be something else, such as a word of a query, names a folder that exists.

    Args:
        word: as it was given.
        alone: whether it is the only word: then one without a slash is taken for a word.
    """
    looks_like_path = any(mark in word for mark in ("/", os.sep)) or word.startswith("~") or word in (".", "..")
    if not word or (not looks_like_path and (alone or " " in word)):
        return False
    try:
        return Path(word).expanduser().is_dir()
    except (OSError, RuntimeError, ValueError):  # too long, no such user, a null byte
        return False


def quote_path(path: str) -> str:
    """A path for a shell, which still replaces a leading ``~``."""
    home, slash, rest = path.partition("/")
    return f"{home}{slash}{quote(rest) if rest else ''}" if home.startswith("~") and home.isascii() else quote(path)


def describe_usage_error(error: CycloptsError) -> UsageProblem:
    """The problem and the remedy of a wrong usage, in words of ours."""
    command = " ".join(("clerestory", *(error.command_chain or ())))
    fix = f"see {command} --help"
    match error:
        case UnknownOptionError():
            name = (error.token.keyword or error.token.value).partition("=")[0]
            known = [name for argument in error.argument_collection for name in argument.names]
            if command.endswith("use search") and not name.startswith("--"):
                fix = f'to avoid a word, put the whole query into quotes: clerestory use search "WORDS {name}"'
                return UsageProblem(f"{command} has no option {name}", fix)
            return UsageProblem(f"{command} has no option {name}", fix, closest(name, known))
        case UnusedCliTokensError():
            words = " ".join(error.unused_tokens or ())
            return UsageProblem(f"{command} does not expect {words!r}", f"remove it, or {fix}")
        case RepeatArgumentError():
            return UsageProblem(f"{error.token.keyword} is given twice", "give it once")
        case MissingArgumentError():
            return _missing(error, command, fix)
        case CoercionError() if error.token is not None:
            name = error.token.keyword or _placeholder(error)
            if not error.token.value.strip():
                value = f"{name} VALUE" if error.token.keyword else name
                return UsageProblem(f"{name} has no value", f"write {value}, or {fix}")
            return UsageProblem(f"{name} must be {_kind(error.target_type)}, not {error.token.value!r}", fix)
        case _:
            return UsageProblem(" ".join(str(error).split()).rstrip("."), fix)


def _missing(error: MissingArgumentError, command: str, fix: str) -> UsageProblem:
    keywords = [token.keyword for token in (error.argument.tokens if error.argument else ()) if token.keyword]
    given = error.keyword or (keywords[-1] if keywords else "")
    if given:
        return UsageProblem(f"{given} has no value", f"write {given} VALUE, or {fix}")
    name = _placeholder(error)
    value = " VALUE" if name.startswith("--") else ""
    return UsageProblem(f"{command} needs {name}", f"add {name}{value}, or {fix}")


def _placeholder(error: CycloptsError) -> str:
    """The name of the argument as ``--help`` has it: ``MODEL`` or ``--data``."""
    if error.argument is None:
        return "a value"
    positional = error.argument.index is not None
    return error.argument.name.lstrip("-").upper() if positional else error.argument.name


def _kind(type_: Any) -> str:
    for option in (type_, *get_args(type_)):  # a choice, or an optional one
        if get_origin(option) is Literal:
            *others, last = map(str, get_args(option))
            return f"{', '.join(others)} or {last}" if others else last
    return next((words for kind, words in _KINDS.items() if kind in (type_, *get_args(type_))), "another value")
