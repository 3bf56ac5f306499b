"""The errors of Clerestory: each is one sentence with a remedy, and has an exit code.

ClerestoryError                exit code
├── InputError                 2   invalid usage, configuration or input
│   ├── ConfigError            2   invalid configuration
│   │   └── SettingError       2   one setting that is unknown, missing or invalid; names it
│   ├── DataError              2   a dataset that cannot be opened or has no readable sample
│   ├── NotFound               2   unknown name; carries the closest matches
│   ├── CapabilityError        2   the model does not support the requested operation
│   ├── NotWritable            2   nothing can be written: a full or read-only disk, missing rights
│   ├── MissingExtra           2   an optional dependency is not installed
│   └── UploadError            2   the server rejects an uploaded image; carries an HTTP status
├── Unavailable                2   a database does not respond: unreachable, or locked for too long
├── IntegrityError             1   stored content does not match its digest; names the file
├── Refused                    1   the gate refuses the release
├── Conflict                   1   another process changed the alias first, or is doing the same
└── Undecided                  3   no decision is possible: evidence is missing or stale
"""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterable, Sequence

MAX_LISTED = 20  # known names in an error
MAX_NAME = 200  # characters; a longer name is not a misspelling of a known one
MAX_COMPARED = 200  # names that are compared character by character


class ClerestoryError(Exception):
    """Base class: the problem in one sentence, the remedy, and similar names.

    Args:
        message: the problem, one sentence without a trailing full stop.
        fix: the remedy, such as a command; empty if there is none.
        closest: existing names that resemble an unknown one.
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
    """Invalid usage, configuration or input."""


class ConfigError(InputError):
    """Invalid configuration."""


class SettingError(ConfigError):
    """A setting that does not exist, is missing or has an invalid value.

    Args:
        setting: its name in its table, such as ``model.experts`` or ``rule 1.metric``; empty for the table itself.
        problem: what is wrong, such as ``must be at least 1, not -1``.
        fix: the remedy; empty if the problem contains it.
        closest: existing names that resemble an unknown one.
        place: of the table, with the separator: ``"TrainConfig."``, ``"policy.toml: "``.
    """

    def __init__(self, setting: str, problem: str, fix: str = "", closest: Sequence[str] = (), place: str = "") -> None:
        name = f"{place}{setting}" if setting else place.rstrip(".: ")
        super().__init__(f"{name} {problem}", fix, closest)
        self.setting = setting
        self.problem = problem

    def at(self, place: str, setting: str | None = None) -> SettingError:
        """The same error in another place, or of the setting that an outer table knows under another name."""
        name = self.setting if setting is None else setting
        return SettingError(name, self.problem, self.fix, self.closest, place)


class DataError(InputError):
    """A dataset cannot be opened or has no readable sample."""


class NotFound(InputError):
    """Unknown name; carries the closest matches."""


class CapabilityError(InputError):
    """The model does not support the requested operation."""


class NotWritable(InputError):
    """Nothing can be written: a full or read-only disk, or missing rights; reading goes on."""


class MissingExtra(InputError):
    """An optional dependency is not installed."""


class UploadError(InputError):
    """The server rejects an uploaded image.

    Args:
        message: the problem.
        fix: the remedy.
        status: the HTTP status: 4xx, or 502 or 503 if the cause is not the image.
    """

    def __init__(self, message: str, fix: str = "", status: int = 400) -> None:
        super().__init__(message, fix)
        self.status = status


class Unavailable(ClerestoryError):
    """A database does not respond: it cannot be reached, or is locked for too long; the same step may work later."""


class IntegrityError(ClerestoryError):
    """Stored content does not match its digest."""

    exit_code = 1


class Refused(ClerestoryError):
    """The gate refuses the release."""

    exit_code = 1


class Conflict(ClerestoryError):
    """Another process changed the alias first, or is doing the same."""

    exit_code = 1


class Undecided(ClerestoryError):
    """No decision is possible: evidence is missing or stale."""

    exit_code = 3


def closest(name: str, known: Iterable[str], limit: int = 3) -> tuple[str, ...]:
    """The names in ``known`` most similar to ``name``, best first."""
    if len(name) > MAX_NAME:
        return ()
    candidates = list(known)
    if len(candidates) > MAX_COMPARED:  # comparing 20,000 names would take seconds; common pairs of letters do not
        pairs = _letter_pairs(name)
        candidates = heapq.nlargest(MAX_COMPARED, candidates, key=lambda each: len(pairs & _letter_pairs(each)))
    return tuple(difflib.get_close_matches(name, candidates, n=limit, cutoff=0.5))


def _letter_pairs(name: str) -> set[str]:
    return {name[i : i + 2] for i in range(len(name) - 1)}


def not_found(kind: str, name: str, known: Iterable[str], fix: str = "") -> NotFound:
    """A ``NotFound`` for ``name`` among the ``known`` names of one kind ("dataset", "model")."""
    names = sorted(known)
    if not fix:
        more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
        fix = f"known: {', '.join(names[:MAX_LISTED])}{more}" if names else f"there is no {kind} yet"
    return NotFound(f"there is no {kind} named {name!r}", fix, closest(name, names))
