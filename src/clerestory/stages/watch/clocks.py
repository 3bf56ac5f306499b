"""Clocks of reporting duties: started and stopped by people, in the timeline of an incident. Not legal advice."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

from clerestory.core.codec import Tags
from clerestory.core.errors import Conflict, InputError
from clerestory.core.people import person_name, visible
from clerestory.core.provenance import current_user
from clerestory.stages.watch.incident_policy import DONE, ReportingDuty
from clerestory.store import Store
from clerestory.store.operations.incidents import Incident, IncidentChange, change_incident

STARTED, FULFILLED = "incident_clock_started", "incident_duty_fulfilled"


def start_clock(
    store: Store, number: int, duty: ReportingDuty, who: str = "", why: str = "", since: str = ""
) -> Incident:
    """Start the clock of a duty.

    Args:
        store: holds the incident.
        number: of the incident.
        duty: of the policy.
        who: the person; the login name if empty.
        why: the reason, for the journal.
        since: when the time began, ISO 8601; now if empty.

    Raises:
        InputError: the time cannot be read or is in the future, or the reason is missing.
        Conflict: the clock runs already.
    """
    began = _moment(since) if since else datetime.now(UTC)
    if began.timestamp() > time.time() + 60:
        raise InputError(f"the time {since} is in the future", "give the time at which you became aware of it")

    def change(current: Incident) -> tuple[Incident, IncidentChange]:
        if duty.name in current.clocks:
            raise Conflict(
                f"the clock of {duty.name} runs since {current.clocks[duty.name]}", "clerestory watch incidents show"
            )
        begun = began.isoformat(timespec="seconds")
        entry = _entry(current, STARTED, who, why, Tags(duty=duty.name, hours=f"{duty.hours:g}", since=begun))
        return replace(current, clocks=Tags(current.clocks, **{duty.name: begun})), entry

    return change_incident(store, number, change, "update")


def fulfil_duty(store: Store, number: int, duty: ReportingDuty, who: str = "", why: str = "") -> Incident:
    """Record that a report was made.

    Raises:
        InputError: the reason is missing.
        Conflict: its clock was not started, or the report was made already.
    """

    def change(current: Incident) -> tuple[Incident, IncidentChange]:
        if duty.name not in current.clocks:
            raise Conflict(f"the clock of {duty.name} was not started", "start it without --reported")
        if duty.name + DONE in current.clocks:
            raise Conflict(f"the report of {duty.name} was made already", "clerestory watch incidents show")
        done = datetime.now(UTC).isoformat(timespec="seconds")
        entry = _entry(current, FULFILLED, who, why, Tags(duty=duty.name))
        return replace(current, clocks=Tags(current.clocks, **{duty.name + DONE: done})), entry

    return change_incident(store, number, change, "update")


def _entry(current: Incident, kind: str, who: str, why: str, details: Tags) -> IncidentChange:
    if not visible(why).strip():
        raise InputError("the clock of a reporting duty needs a reason", "give it: --why '...'")
    return IncidentChange(kind, max(time.time(), current.updated), person_name(who or current_user()), why, details)


def _moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text!r} is not a time", "write it as 2027-06-30T09:00") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
