"""Every error a person can meet, each one sentence with its fix.

ClerestoryError                exit code
├── InputError                 2   wrong usage, configuration or input
│   ├── ConfigError            2   an unknown key or a value of the wrong type
│   ├── DataError              2   data that cannot be opened, or with nothing readable in it
│   ├── NotFound               2   a name that nothing has; carries the closest names
│   ├── CapabilityError        2   the model cannot do what is asked of it
│   ├── MissingExtra           2   an optional dependency is not installed
│   └── UploadError            2   a picture sent to the server that it will not take (carries an HTTP status)
├── IntegrityError             1   stored bytes are not what their digest says; names the file
├── Refused                    1   the gate says no
├── Conflict                   1   somebody else moved the alias first
└── Undecided                  3   evidence is missing or stale
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class ClerestoryError(Exception):
    """What happened, in one sentence, and what to do about it.

    Args:
        message: what happened, one sentence without a trailing full stop.
        fix: what to do or run next; empty when nothing can be suggested.
        closest: names that exist and look like the one that was asked for.
    """

    exit_code = 2

    def __init__(self, message: str, fix: str = "", closest: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.closest = tuple(closest)

    def __str__(self) -> str:
        parts = [self.message]
        if self.closest:
            parts.append("did you mean " + " or ".join(self.closest) + "?")
        if self.fix:
            parts.append(self.fix)
        return " — ".join(parts)


class InputError(ClerestoryError):
    """Wrong usage, configuration or input."""


class ConfigError(InputError):
    """A configuration with an unknown key or a value of the wrong type."""


class DataError(InputError):
    """Data that cannot be opened, or in which nothing is readable."""


class NotFound(InputError):
    """A name that nothing has."""


class CapabilityError(InputError):
    """The model cannot do what is asked of it."""


class MissingExtra(InputError):
    """An optional dependency is not installed."""


class UploadError(InputError):
    """A picture the server will not take.

    Args:
        message: what is wrong with it.
        fix: what to send instead.
        status: the HTTP status that says so (4xx).
    """

    def __init__(self, message: str, fix: str = "", status: int = 400) -> None:
        super().__init__(message, fix)
        self.status = status


class IntegrityError(ClerestoryError):
    """Stored bytes are not what their digest says."""

    exit_code = 1


class Refused(ClerestoryError):
    """The gate says no."""

    exit_code = 1


class Conflict(ClerestoryError):
    """Somebody else moved the alias first."""

    exit_code = 1


class Undecided(ClerestoryError):
    """Evidence is missing or stale."""

    exit_code = 3


def closest(name: str, known: Iterable[str], most: int = 3) -> tuple[str, ...]:
    """The names in ``known`` that look most like ``name``, best first."""
    return tuple(difflib.get_close_matches(name, list(known), n=most, cutoff=0.5))


def not_found(kind: str, name: str, known: Iterable[str], fix: str = "") -> NotFound:
    """A ``NotFound`` for ``name`` among the ``known`` names of one kind ("data set", "model")."""
    names = sorted(known)
    if not fix:
        fix = f"known: {', '.join(names[:12])}" if names else f"there is no {kind} yet"
    return NotFound(f"there is no {kind} named {name!r}", fix, closest(name, names))
