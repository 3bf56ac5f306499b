"""States as words, icon and colour together, and times as people tell them; see ``report.format`` for other words."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from clerestory.core.evidence import Subject
from clerestory.report import format


class State(NamedTuple):
    """A state as people see it: always words, an icon and a colour."""

    words: str
    icon: str
    tone: str


VERDICTS = {
    "ship": State("Yes, it may ship", "yes", "yes"),
    "refuse": State("No, it must not ship", "no", "no"),
    "cannot_tell": State("Cannot tell yet", "unsure", "unsure"),
}
VERDICTS_SHORT = {
    "ship": State("May ship", "yes", "yes"),
    "refuse": State("Must not ship", "no", "no"),
    "cannot_tell": State("Cannot tell", "unsure", "unsure"),
}
OUTCOMES = {
    "pass": State("Holds", "yes", "yes"),
    "fail": State("Does not hold", "no", "no"),
    "cannot_tell": State("Cannot tell", "unsure", "unsure"),
}
FINDINGS = {
    "pass": State("Fine", "yes", "yes"),
    "fail": State("Failed", "no", "no"),
    "warn": State("Worth a look", "unsure", "unsure"),
    "not_applicable": State("Does not apply", "dot", "soft"),
    "not_run": State("Not run", "dot", "soft"),
    "accepted": State("Accepted by a person", "yes", "yes"),
}
FRESH = State("Fresh", "yes", "yes")
STALE = State("Stale", "unsure", "unsure")
MISSING = State("Missing", "dot", "soft")
FRESHNESS = {"fresh": FRESH, "stale": STALE, "missing": MISSING}
WHOLE = State("Unbroken", "yes", "yes")
BROKEN = State("Broken", "no", "no")

_EVENTS = {
    "gated": ("gate", "sky"),
    "promoted": ("up", "yes"),
    "rolled_back": ("back", "unsure"),
    "data_added": ("add", "soft"),
}
_DIGESTS = {
    "model": "the model",
    "data": "the pictures",
    "code": "the code",
    "config": "the settings",
    "environment": "the machine and its libraries",
}


def event(kind: str) -> State:
    """What somebody did."""
    icon, tone = _EVENTS.get(kind, ("dot", "soft"))
    return State(format.event(kind), icon, tone)


def ago(iso: str, now: datetime | None = None) -> str:
    """How long ago: ``just now``, ``5 minutes ago``, ``3 days ago``; empty for unreadable input."""
    try:
        when = datetime.fromisoformat(iso)
    except ValueError:
        return ""
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    seconds = ((now or datetime.now(UTC)) - when).total_seconds()
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return f"{format.plural(int(seconds // length), unit)} ago"
    return "just now"


def digests(subject: Subject) -> list[tuple[str, str, str]]:
    """The parts of a subject for a table: name, words, SHA-256; empty where the evidence does not depend on it."""
    return [(name, said, getattr(subject, name)) for name, said in _DIGESTS.items()]


def changes(names: Iterable[str]) -> str:
    """Which parts of a subject are no longer the same: ``the code and the pictures``."""
    return format.listing([_DIGESTS[name] for name in names])


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def percent(value: float, unit: str) -> str:
    """A number for people who are not engineers: a share as per cent, anything else with its unit."""
    if unit != format.SHARE:
        return format.amount(value, unit)
    shown = f"{100 * value:.1f}".removesuffix(".0")
    return f"{shown}\N{NO-BREAK SPACE}%"
