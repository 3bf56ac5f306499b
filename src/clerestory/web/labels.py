"""States as text, icon and colour together, and relative times; ``report.format`` has all other texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from clerestory.apps.tags import Tag
from clerestory.core.digest import short
from clerestory.core.evidence import Subject
from clerestory.core.release import Rule
from clerestory.report import format
from clerestory.stats.metrics import metric


class StateLabel(NamedTuple):
    """How a page shows a state: always text, an icon and a colour."""

    text: str
    icon: str
    tone: str


VERDICTS = {
    "ship": StateLabel("Yes, it may ship", "yes", "yes"),
    "refuse": StateLabel("No, it must not ship", "no", "no"),
    "cannot_decide": StateLabel("Cannot decide yet", "unsure", "unsure"),
}
VERDICTS_SHORT = {
    "ship": StateLabel("May ship", "yes", "yes"),
    "refuse": StateLabel("Must not ship", "no", "no"),
    "cannot_decide": StateLabel("Cannot decide", "unsure", "unsure"),
}
DECLINED = StateLabel("Declined", "no", "no")
OUTCOMES = {
    "pass": StateLabel("Passed", "yes", "yes"),
    "fail": StateLabel("Failed", "no", "no"),
    "cannot_decide": StateLabel("Cannot decide", "unsure", "unsure"),
}
FINDINGS = {
    "pass": StateLabel("Passed", "yes", "yes"),
    "fail": StateLabel("Failed", "no", "no"),
    "warn": StateLabel("Warning", "unsure", "unsure"),
    "not_applicable": StateLabel("Does not apply", "dot", "soft"),
    "not_run": StateLabel("Not run", "dot", "soft"),
    "accepted": StateLabel("Accepted by a person", "yes", "yes"),
}
FRESH = StateLabel("Up to date", "yes", "yes")
STALE = StateLabel("Stale", "unsure", "unsure")
MISSING = StateLabel("Missing", "dot", "soft")
FRESHNESS = {"fresh": FRESH, "stale": STALE, "missing": MISSING}
APPROVALS = {
    "yes": StateLabel("Approved", "yes", "yes"),
    "no": DECLINED,
    "unsure": StateLabel("Pending", "unsure", "unsure"),
    "plain": StateLabel("Not required", "dot", "soft"),
}
JOURNAL_INTACT = StateLabel("Intact", "yes", "yes")

_EVENTS = {
    "gated": ("gate", "sky"),
    "undecided": ("gate", "unsure"),
    "approval_requested": ("gate", "sky"),
    "approved": ("yes", "yes"),
    "approval_declined": ("no", "no"),
    "promoted": ("up", "yes"),
    "rolled_back": ("back", "unsure"),
    "data_added": ("add", "soft"),
    "model_added": ("add", "soft"),
    "data_fixed": ("add", "sky"),
    "finding_accepted": ("yes", "sky"),
    "acceptance_withdrawn": ("undo", "unsure"),
}
OTHER_MODEL = (
    "for photographs, start the server with another model: clerestory serve --model photos searches them, "
    "--model hf:HuggingFaceTB/SmolVLM-256M-Instruct captions them; or train one on your own images"
)


def event(kind: str) -> StateLabel:
    """The label of a journal event."""
    icon, tone = _EVENTS.get(kind, ("dot", "soft"))
    return StateLabel(format.event(kind), icon, tone)


def subject(name: str) -> str:
    """The subject of an event: a digest in its short form, any other name as it is."""
    return short(name) if re.fullmatch(r"[0-9a-f]{64}", name) else name


def bound(rule: Rule) -> str:
    """What a rule requires: ``at least 50 %, also at the lower bound of the interval``."""
    unit = metric(rule.metric).unit
    if rule.no_worse_by is not None:
        each = f", for each {format.slice_key(rule.each_group)}" if rule.each_group else ""
        return f"not worse than {rule.compare_with} by {percent(rule.no_worse_by, unit)} or more{each}"
    value = rule.at_least if rule.at_least is not None else rule.at_most or 0.0
    direction, end = ("at least", "lower") if rule.at_least is not None else ("at most", "upper")
    also = f", also at the {end} bound of the interval" if rule.criterion == "interval_bound" else ""
    return f"{direction} {percent(value, unit)}{also}"


def ago(iso: str, now: datetime | None = None) -> str:
    """The age of a moment: ``just now``, ``5 minutes ago``, ``3 days ago``; empty for unreadable input."""
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
    """The digests of a subject for a table: field, description, SHA-256 (empty without a dependency on it)."""
    return [(name, description, getattr(subject, name)) for name, description in format.DIGESTS.items()]


def changes(names: Iterable[str]) -> str:
    """The changed digests of a subject as text: ``the code and the settings``."""
    return format.listing([format.DIGESTS[name] for name in names])


def num_images(count: int) -> str:
    """A number of images as text."""
    return format.plural(count, "picture")


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def percent(value: float, unit: str) -> str:
    """A number for people who are not engineers: a share in per cent, any other with its unit."""
    if unit != format.SHARE:
        return format.amount(value, unit)
    shown = f"{100 * value:.1f}".removesuffix(".0")
    return f"{shown}\N{NO-BREAK SPACE}%"


def fact_text(value: object) -> str:
    """A fact for people: integers with separators, booleans as yes or no, lists with commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(fact_text, value)) if isinstance(value, tuple) else str(value)


def tags_sentence(tags: Sequence[Tag]) -> str:
    """What a photograph probably shows, each tag with its probability in words."""
    if not tags:
        return "Not sure what it shows"
    return "Probably shows: " + ", ".join(f"{tag.text} ({tag.likelihood})" for tag in tags)
