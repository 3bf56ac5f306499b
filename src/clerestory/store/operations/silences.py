"""Silences: for a while nobody is notified of certain incidents. They are opened, counted and shown all the same."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, select, update

from clerestory.core.codec import Tags, decode
from clerestory.core.digest import canonical
from clerestory.core.errors import InputError, not_found
from clerestory.core.people import person_name, visible
from clerestory.core.provenance import current_user
from clerestory.core.release import Event
from clerestory.store.operations.incidents import Incident
from clerestory.store.operations.schema import silences as table
from clerestory.store.store import Store

SILENCED, SILENCE_ENDED = "silenced", "silence_ended"  # kinds of events
MATCHED = ("kind", "name", "subject", "severity", "incident")
MAX_DAYS = 30.0


@dataclass(frozen=True, slots=True)
class Silence:
    """A time during which the notifications of some incidents are muted.

    Attributes:
        id: names it.
        matcher: values of ``kind``, ``name``, ``subject``, ``severity`` or ``incident`` (a number) that it must have.
        since, until: seconds since the epoch.
        who, why: the person and the reason.
    """

    id: str
    matcher: Tags
    since: float
    until: float
    who: str
    why: str = field(default="")

    def mutes(self, incident: Incident, at: float) -> bool:
        """Whether the notifications of an incident are muted at a time."""
        if not self.since <= at < self.until:
            return False
        values = {
            "kind": incident.kind.value,
            "name": incident.name,
            "subject": incident.subject,
            "severity": incident.severity.value,
            "incident": str(incident.number),
        }
        return all(values[key] == value for key, value in self.matcher.items())


def silence(store: Store, matcher: Tags, hours: float, who: str = "", why: str = "") -> Silence:
    """Mute the notifications of incidents for some hours.

    Args:
        store: receives the silence and its journal record.
        matcher: what an incident must equal; see ``Silence``.
        hours: how long, up to 30 days.
        who: the person; the login name if empty.
        why: the reason, for the journal.

    Raises:
        InputError: the matcher is empty or has an unknown key, the reason is missing, or the time is out of range.
    """
    if not matcher:
        raise InputError("a silence without a matcher would mute every incident", "name what it is for: kind=drift")
    if unknown := sorted(set(matcher) - set(MATCHED)):
        raise InputError(f"a silence cannot match {unknown[0]!r}", f"it matches {', '.join(MATCHED)}")
    if not visible(why).strip():
        raise InputError("a silence needs a reason", "give it: --why '...'")
    if not 0 < hours <= MAX_DAYS * 24:
        raise InputError(f"a silence cannot last {hours:g} hours", f"choose up to {MAX_DAYS:g} days")
    now = time.time()
    new = Silence(secrets.token_hex(6), matcher, now, now + hours * 3600, person_name(who or current_user()), why)
    store.database.ensure_operations()
    with store.database.writing() as connection:
        connection.execute(table.insert().values(id=new.id, until=new.until, body=canonical(new).decode()))
        until = datetime.fromtimestamp(new.until, UTC).isoformat(timespec="seconds")
        _record(store, connection, SILENCED, new, new.who, why, Tags(matcher, until=until))
    return new


def end_silence(store: Store, id: str, who: str = "", why: str = "") -> Silence:
    """End a silence now.

    Raises:
        NotFound: no such silence lasts.
    """
    store.database.ensure_operations()
    with store.database.writing() as connection:
        lasting = {each.id: each for each in read_silences(connection)}
        if id not in lasting:
            raise not_found("silence", id, lasting)
        now = time.time()
        connection.execute(update(table).where(table.c.id == id).values(until=now))
        connection.execute(delete(table).where(table.c.id == id))
        _record(store, connection, SILENCE_ENDED, lasting[id], person_name(who or current_user()), why, Tags())
    return lasting[id]


def silences(store: Store) -> list[Silence]:
    """The silences that last now."""
    store.database.ensure_operations()
    with store.database.reading() as connection:
        return read_silences(connection)


def read_silences(connection: Connection, at: float | None = None) -> list[Silence]:
    """The silences that last at a time, as part of a transaction of the caller."""
    now = time.time() if at is None else at
    rows = connection.execute(select(table.c.body).where(table.c.until > now).order_by(table.c.until)).scalars()
    return [decode(Silence, json.loads(body)) for body in rows]


def _record(
    store: Store, connection: Connection, kind: str, silence: Silence, who: str, why: str, details: Tags
) -> None:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    store.journal.write(connection, Event(kind, f"silence/{silence.id}", who, why, when, details))
