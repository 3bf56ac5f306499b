"""Incidents: alerts that need somebody, grouped, with every change by a person or by the system on record.

An alert opens an incident, or is counted by the one that is open for the same fingerprint. State, journal record and
notification are written in one transaction. A change states the generation that it expects, so of two people who
acknowledge at once, one gets the answer that the other was first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, func, select, update

from clerestory.core.codec import Tags, decode
from clerestory.core.digest import canonical, digest
from clerestory.core.errors import ConfigError, Conflict, InputError, IntegrityError, NotFound
from clerestory.core.people import person_name, visible
from clerestory.core.provenance import current_user
from clerestory.core.release import Event
from clerestory.store.operations.outbox import ALL_CHANNELS, enqueue
from clerestory.store.operations.schema import incidents as table
from clerestory.store.store import Store

SYSTEM = "clerestory"
"""Who acts where no person does."""
REOPEN_AFTER_S = 60.0
"""An alert this long after an incident was mitigated opens it again; an earlier one may have been on its way."""
MAX_TEXT = 2000  # characters of a title, a reason or a detail
MAX_KEPT = 50  # changes of one incident that are kept beside the state; the journal has all of them
NO_REASON = "an incident changes only for a reason"


class AlertKind(StrEnum):
    """What went wrong."""

    ROLLOUT = "rollout"  # a candidate was rolled back
    GUARDRAIL = "guardrail"
    DRIFT = "drift"
    MODEL_LOAD = "model_load"
    INTEGRITY = "integrity"
    ERROR_RATE = "error_rate"
    LATENCY = "latency"
    FEEDBACK = "feedback"
    DISK = "disk"
    HEARTBEAT = "heartbeat"
    OUTBOX = "outbox"
    QUEUE = "queue"
    REPORTED = "reported"  # by a person


class IncidentSeverity(StrEnum):
    """How bad it is, in the words of PagerDuty's events API."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class IncidentState(StrEnum):
    """How far people are with an incident."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    MITIGATING = "mitigating"
    MITIGATED = "mitigated"
    RESOLVED = "resolved"
    POSTMORTEM = "postmortem"


_S = IncidentState
UNRESOLVED = (_S.OPEN, _S.ACKNOWLEDGED, _S.MITIGATING, _S.MITIGATED)
NEXT_STATES = {
    _S.OPEN: (_S.ACKNOWLEDGED, _S.MITIGATING, _S.MITIGATED, _S.RESOLVED),
    _S.ACKNOWLEDGED: (_S.MITIGATING, _S.MITIGATED, _S.RESOLVED),
    _S.MITIGATING: (_S.MITIGATED, _S.RESOLVED),
    _S.MITIGATED: (_S.RESOLVED,),
    _S.RESOLVED: (_S.POSTMORTEM,),
    _S.POSTMORTEM: (),
}
OPENED, RECURRED, REOPENED, NOTED = "incident_opened", "incident_recurred", "incident_reopened", "incident_noted"
SEVERITIES = tuple(IncidentSeverity)  # the worst first


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that a check has noticed.

    Attributes:
        kind: what went wrong.
        title: one sentence for whoever is paged.
        name: of the model; empty if it concerns no single one.
        subject: the object, such as ``icons@3``, ``style=openmoji`` or a server id.
        severity: how bad it is, unless the policy of incidents says otherwise.
        details: measured values and references, such as ``rollout``, ``from``, ``e_value``; no personal data.
        group: alerts of one kind, name and subject with the same text here are one incident.
        at: when it was noticed, in seconds since the epoch; 0 for now.
        begun: since when the problem exists, as far as it is known; 0 if it is not.
    """

    kind: AlertKind
    title: str
    name: str = ""
    subject: str = ""
    severity: IncidentSeverity = IncidentSeverity.ERROR
    details: Tags = field(default_factory=Tags)
    group: str = ""
    at: float = 0.0
    begun: float = 0.0

    @property
    def fingerprint(self) -> str:
        """What the alerts of one incident have in common."""
        return digest([self.kind.value, self.name, self.subject, self.group])


@dataclass(frozen=True, slots=True)
class IncidentChange:
    """One entry of the timeline of an incident.

    Attributes:
        kind: of the journal record, such as ``incident_acknowledged``.
        at: seconds since the epoch.
        who, why: the person or the system, and the reason.
        details: further information.
    """

    kind: str
    at: float
    who: str
    why: str
    details: Tags = field(default_factory=Tags)


@dataclass(frozen=True, slots=True)
class Incident:
    """A problem in service that somebody has to deal with.

    Attributes:
        number: 1, 2, …
        fingerprint: of the alerts that it groups.
        generation: how many times it was changed; a change states the one it expects.
        kind, name, subject, title, details: of the alert that opened it; ``details`` of the latest one.
        severity: the worst of its alerts, or as the policy or a person says.
        alerted: the worst severity of its alerts.
        state: open, acknowledged, …
        opened, updated: seconds since the epoch.
        begun: since when the problem exists, as far as it is known; ``opened`` otherwise.
        occurrences: how many alerts it groups.
        last_seen: the time of the latest one.
        changes: the timeline, oldest first, without the recurrences; the latest ``MAX_KEPT``.
        earlier: the number of the last incident with the same fingerprint; 0 if there was none.
        runbook: the name of its runbook; empty until the policy was applied.
        routed: whether the policy of incidents was applied.
        clocks: reporting duties that a person started, name → ISO 8601 time; ``name.done`` when it was fulfilled.
    """

    number: int
    fingerprint: str
    generation: int
    kind: AlertKind
    name: str
    subject: str
    title: str
    severity: IncidentSeverity
    alerted: IncidentSeverity
    state: IncidentState
    opened: float
    updated: float
    begun: float
    occurrences: int = 1
    last_seen: float = 0.0
    details: Tags = field(default_factory=Tags)
    changes: tuple[IncidentChange, ...] = ()
    earlier: int = 0
    runbook: str = ""
    routed: bool = False
    clocks: Tags = field(default_factory=Tags)

    @property
    def ref(self) -> str:
        """The subject of its journal records and the stream of its notifications, such as ``incident/3``."""
        return incident_ref(self.number)

    @property
    def dedup_key(self) -> str:
        """What every notification of it shares, so that receivers group them (PagerDuty's ``dedup_key``)."""
        return f"clerestory-{digest([self.number, self.fingerprint, self.opened])[:24]}"

    @property
    def is_resolved(self) -> bool:
        """Whether nobody has to act any more."""
        return self.state not in UNRESOLVED

    def when(self, state: IncidentState) -> float:
        """When it first came into a state, in seconds since the epoch; 0 if it did not."""
        return next((each.at for each in self.changes if each.kind == change_kind(state)), 0.0)


def incident_ref(number: int) -> str:
    """The subject of the journal records of an incident."""
    return f"incident/{number}"


def change_kind(state: IncidentState) -> str:
    """The kind of the journal record of a transition."""
    return OPENED if state is IncidentState.OPEN else f"incident_{state.value}"


# Alerts.


def open_or_update(store: Store, alert: Alert, connection: Connection | None = None, who: str = SYSTEM) -> Incident:
    """Open an incident for an alert, or count it in the unresolved one with the same fingerprint.

    Journal record and notification are written in the same transaction. Recurrences are journaled at 2, 4, 8, …
    alerts, so that an alert every second does not fill the journal; they notify nobody, unless the severity rises or
    the incident had been mitigated.

    Args:
        store: holds the incidents.
        alert: the alert.
        connection: of a write transaction of the caller, who has called ``store.database.ensure_operations()``; one of
            its own if None.
        who: the person who reports it, or the system.
    """
    if connection is None:
        store.database.ensure_operations()
    with nullcontext(connection) if connection is not None else store.database.writing() as transaction:
        current = _unresolved(transaction, alert.fingerprint)
        if current is None:
            return _open(store, transaction, alert, who)
        return _recur(store, transaction, current, alert, who)


def _open(store: Store, connection: Connection, alert: Alert, who: str) -> Incident:
    at = alert.at or time.time()
    title, details = _short(alert.title), Tags({key: _short(value) for key, value in alert.details.items()})
    earlier = connection.execute(
        select(func.max(table.c.number)).where(table.c.fingerprint == alert.fingerprint)
    ).scalar()
    number = int(connection.execute(select(func.max(table.c.number))).scalar() or 0) + 1
    change = IncidentChange(OPENED, at, who, title, details)
    incident = Incident(
        number=number,
        fingerprint=alert.fingerprint,
        generation=1,
        kind=alert.kind,
        name=alert.name,
        subject=_short(alert.subject),
        title=title,
        severity=alert.severity,
        alerted=alert.severity,
        state=IncidentState.OPEN,
        opened=at,
        updated=at,
        begun=min(alert.begun or at, at),
        last_seen=at,
        details=details,
        changes=(change,),
        earlier=int(earlier or 0),
    )
    connection.execute(table.insert().values(**_columns(incident)))
    _record(store, connection, incident, change)
    _notify(connection, incident, "trigger", change)
    return incident


def _recur(store: Store, connection: Connection, current: Incident, alert: Alert, who: str) -> Incident:
    at = max(alert.at or time.time(), current.opened)
    count = current.occurrences + 1
    details = Tags({key: _short(value) for key, value in alert.details.items()})
    begun = min(current.begun, alert.begun) if alert.begun else current.begun
    new = replace(current, occurrences=count, last_seen=max(at, current.last_seen), details=details, begun=begun)
    mitigated = max((each.at for each in current.changes if each.kind == change_kind(_S.MITIGATED)), default=0.0)
    if current.state is _S.MITIGATED and at > mitigated + REOPEN_AFTER_S:
        change = IncidentChange(REOPENED, at, who, _short(alert.title), details)
        return _apply(store, connection, current, replace(new, state=_S.OPEN), change, "trigger")
    if SEVERITIES.index(alert.severity) < SEVERITIES.index(current.alerted):
        change = IncidentChange(RECURRED, at, who, _short(alert.title), Tags(details, severity=alert.severity.value))
        worse = replace(new, severity=alert.severity, alerted=alert.severity, routed=False)
        return _apply(store, connection, current, worse, change, "trigger")
    if count & (count - 1) == 0:
        change = IncidentChange(RECURRED, at, who, _short(alert.title), Tags(details, occurrences=str(count)))
        _record(store, connection, new, change)
    _save(connection, current, new)  # not a change of state: whoever read the incident before may still change it
    return new


# Changes by people and by the system.


def transition(
    store: Store,
    number: int,
    state: IncidentState,
    who: str = "",
    why: str = "",
    expected_generation: int | None = None,
    details: Tags | None = None,
    at: float | None = None,
    connection: Connection | None = None,
) -> Incident:
    """Bring an incident into a further state.

    Args:
        store: holds the incident.
        number: of the incident.
        state: acknowledged, mitigating, mitigated, resolved or postmortem.
        who: the person; the login name if empty.
        why: the reason, for the journal.
        expected_generation: the generation that the person saw; None for the current one.
        details: further information for the journal, such as the digest of a postmortem.
        at: the time; now if None.
        connection: of a write transaction of the caller; one of its own if None.

    Raises:
        NotFound: no such incident exists.
        Conflict: somebody else was first, or the incident is not in a state from which it can go there.
        InputError: the reason is missing, or the name cannot be one.
    """
    reason, person = _reason(why), _person(who)

    def change(current: Incident) -> tuple[Incident, IncidentChange]:
        _check_generation(current, expected_generation)
        if state not in NEXT_STATES[current.state]:
            raise _not_possible(current, state)
        entry = IncidentChange(change_kind(state), _time(current, at), person, reason, details or Tags())
        return replace(current, state=state), entry

    event = {_S.ACKNOWLEDGED: "acknowledge", _S.RESOLVED: "resolve"}.get(state, "update")
    return change_incident(store, number, change, event, connection)


def note(
    store: Store,
    number: int,
    why: str,
    who: str = "",
    details: Tags | None = None,
    severity: IncidentSeverity | None = None,
    connection: Connection | None = None,
) -> Incident:
    """Add a remark to the timeline, with another severity if one is given.

    Raises:
        NotFound: no such incident exists.
        InputError: the remark is empty.
    """
    reason, person = _reason(why), _person(who)

    def change(current: Incident) -> tuple[Incident, IncidentChange]:
        more = Tags(details or {}, severity=severity.value) if severity else details or Tags()
        entry = IncidentChange(NOTED, _time(current, None), person, reason, more)
        return replace(current, severity=severity or current.severity), entry

    return change_incident(store, number, change, "update", connection)


def change_incident(
    store: Store,
    number: int,
    change: Callable[[Incident], tuple[Incident, IncidentChange]],
    event: str = "",
    connection: Connection | None = None,
) -> Incident:
    """Change an incident with its journal record and notification, all or nothing.

    Args:
        store: holds the incident.
        number: of the incident.
        change: computes the new incident and the entry of its timeline from the current one; raises to prevent it.
        event: ``trigger``, ``acknowledge``, ``resolve`` or ``update``, for the notification; empty for none.
        connection: of a write transaction of the caller; one of its own if None.
    """
    if connection is None:
        store.database.ensure_operations()
    with nullcontext(connection) if connection is not None else store.database.writing() as transaction:
        current = read_incident(transaction, number)
        new, entry = change(current)
        return _apply(store, transaction, current, new, entry, event)


# Reading.


def incident(store: Store, number: int) -> Incident:
    """One incident.

    Raises:
        NotFound: it does not exist.
    """
    store.database.ensure_operations()
    with store.database.reading() as connection:
        return read_incident(connection, number)


def incidents(
    store: Store, unresolved: bool = False, name: str = "", limit: int | None = None, since: float = 0.0
) -> list[Incident]:
    """The incidents, newest first.

    Args:
        store: holds them.
        unresolved: only those that are neither resolved nor in postmortem.
        name: only of this model name.
        limit: only the newest ones.
        since: only those updated at this time or later.
    """
    store.database.ensure_operations()
    query = select(table.c.number, table.c.body).order_by(table.c.number.desc()).limit(limit)
    query = query.where(table.c.updated >= since) if since else query
    if unresolved:
        query = query.where(table.c.state.in_([state.value for state in UNRESOLVED]))
    if name:
        query = query.where(table.c.name == name)
    with store.database.reading() as connection:
        return [_read(row.number, row.body) for row in connection.execute(query)]


def read_incident(connection: Connection, number: int) -> Incident:
    """One incident, as part of a transaction of the caller.

    Raises:
        NotFound: it does not exist.
    """
    body = None
    if 0 < number < 2**31:  # more does not fit into an INTEGER
        body = connection.execute(select(table.c.body).where(table.c.number == number)).scalar()
    if body is None:
        newest = connection.execute(select(func.max(table.c.number))).scalar()
        fix = f"the newest is incident {newest}: clerestory watch incidents list" if newest else "none was opened yet"
        raise NotFound(f"there is no incident {number}", fix)
    return _read(number, body)


def timeline(store: Store, number: int) -> list[IncidentChange]:
    """Every journal record of an incident, oldest first, also those that the incident itself does not keep."""
    subject = incident_ref(number)
    return [
        IncidentChange(
            record.event.kind,
            datetime.fromisoformat(record.event.when).timestamp(),
            record.event.who,
            record.event.why,
            record.event.details,
        )
        for record in store.journal.records(subject)
        if record.event.subject == subject
    ]


def _unresolved(connection: Connection, fingerprint: str) -> Incident | None:
    states = [state.value for state in UNRESOLVED]
    query = select(table.c.number, table.c.body).where(table.c.fingerprint == fingerprint, table.c.state.in_(states))
    row = connection.execute(query.order_by(table.c.number.desc()).limit(1)).first()
    return _read(row.number, row.body) if row else None


def _read(number: int, body: str) -> Incident:
    try:
        return decode(Incident, _with_enums(json.loads(body)))
    except (ValueError, KeyError, ConfigError) as error:
        raise IntegrityError(
            f"incident {number} in the database is damaged: {error}", "its history is in the journal"
        ) from error


def _with_enums(data: dict[str, Any]) -> dict[str, Any]:
    severity = IncidentSeverity
    kinds = {"kind": AlertKind, "severity": severity, "alerted": severity, "state": IncidentState}
    return data | {name: kind(data[name]) for name, kind in kinds.items()}


# Writing.


def _apply(
    store: Store, connection: Connection, current: Incident, new: Incident, entry: IncidentChange, event: str
) -> Incident:
    # The first entry stays: it says how it began.
    changes = (*current.changes, entry)
    kept = changes if len(changes) <= MAX_KEPT else (changes[0], *changes[-MAX_KEPT + 1 :])
    new = replace(new, generation=current.generation + 1, updated=max(entry.at, current.updated), changes=kept)
    _save(connection, current, new)
    _record(store, connection, new, entry)
    if event:
        _notify(connection, new, event, entry)
    return new


def _save(connection: Connection, current: Incident, new: Incident) -> None:
    same = and_(table.c.number == current.number, table.c.generation == current.generation)
    if connection.execute(update(table).where(same).values(**_columns(new))).rowcount != 1:
        raise Conflict(f"incident {current.number} was changed by another process", "look at it again")


def _columns(incident: Incident) -> dict[str, object]:
    return {
        "number": incident.number,
        "fingerprint": incident.fingerprint,
        "name": incident.name,
        "state": incident.state.value,
        "severity": incident.severity.value,
        "generation": incident.generation,
        "opened": incident.opened,
        "updated": incident.updated,
        "body": canonical(incident).decode(),
    }


def _record(store: Store, connection: Connection, incident: Incident, entry: IncidentChange) -> None:
    when = datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="milliseconds")
    details = Tags(
        entry.details,
        **{
            "incident.kind": incident.kind.value,
            "incident.state": incident.state.value,
            "incident.severity": incident.severity.value,
            "incident.subject": incident.subject,
        },
    )
    store.journal.write(connection, Event(entry.kind, incident.ref, entry.who, entry.why, when, details))


def _notify(connection: Connection, incident: Incident, event: str, entry: IncidentChange) -> None:
    payload = {
        "event": event,
        "incident": incident.number,
        "dedup_key": incident.dedup_key,
        "kind": incident.kind.value,
        "severity": incident.severity.value,
        "state": incident.state.value,
        "title": incident.title,
        "name": incident.name,
        "subject": incident.subject,
        "details": dict(entry.details),
        "change": entry.kind,
        "who": entry.who,
        "why": entry.why,
        "at": entry.at,
        "opened": incident.opened,
        "occurrences": incident.occurrences,
    }
    # The opening time is part of the key: a store that was restored from a backup numbers its incidents again.
    key = f"{incident.dedup_key}/{incident.generation}"
    enqueue(connection, key, ALL_CHANNELS, payload, incident.ref)


def _check_generation(current: Incident, expected: int | None) -> None:
    if expected is None or expected == current.generation:
        return
    last = current.changes[-1]
    raise Conflict(
        f"incident {current.number} was changed meanwhile: it is {current.state.value} ({last.who}: {last.why})",
        "look at it again",
    )


def _not_possible(current: Incident, state: IncidentState) -> Conflict:
    last = next((each for each in reversed(current.changes) if each.kind == change_kind(current.state)), None)
    by = f" by {last.who} ({last.why})" if last else ""
    options = ", ".join(each.value for each in NEXT_STATES[current.state]) or "no other state"
    return Conflict(
        f"incident {current.number} is {current.state.value} already{by} and cannot become {state.value}",
        f"it can become {options}",
    )


def _time(current: Incident, at: float | None) -> float:
    """The time of a change: never before the last one, whatever the clock says."""
    return max(time.time() if at is None else at, current.updated)


def _reason(why: str) -> str:
    if not visible(why).strip():
        raise InputError(NO_REASON, "give it: --why '...'")
    return _short(why)


def _person(who: str) -> str:
    return SYSTEM if who == SYSTEM else person_name(who or current_user())


def _short(text: str) -> str:
    text = visible(text)
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
