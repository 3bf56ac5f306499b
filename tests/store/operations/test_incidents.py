"""Incidents: alerts are grouped, changes are compare-and-swap, and each is in the journal in the same transaction."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from clerestory.core.codec import Tags
from clerestory.core.errors import Conflict, InputError, NotFound
from clerestory.store import Store
from clerestory.store.operations.incidents import (
    REOPEN_AFTER_S,
    Alert,
    AlertKind,
    IncidentSeverity,
    IncidentState,
    incident,
    incidents,
    note,
    open_or_update,
    timeline,
    transition,
)
from clerestory.store.operations.outbox import OutboxState, outbox_rows
from clerestory.store.operations.silences import end_silence, silence, silences

DRIFT = Alert(AlertKind.DRIFT, "inputs of icons have changed", "icons", "style=openmoji", details=Tags(distance="0.5"))


def queued(store: Store) -> list[str]:
    with store.database.reading() as connection:
        return [str(row.payload["event"]) for row in outbox_rows(connection)]


def test_alerts_with_the_same_fingerprint_are_one_incident(store: Store) -> None:
    for _ in range(100):
        open_or_update(store, DRIFT)
    other = open_or_update(store, replace(DRIFT, subject="style=noto"))
    first, second = incidents(store)[::-1]
    assert (first.number, first.occurrences, first.state) == (1, 100, IncidentState.OPEN)
    assert (second.number, other.number) == (2, 2)
    assert queued(store) == ["trigger", "trigger"]  # nobody is paged a hundred times
    assert [each.kind for each in timeline(store, 1)] == ["incident_opened", *["incident_recurred"] * 6]  # 2, 4, … 64
    assert store.journal.verify() == []


def test_the_whole_life_is_journaled_with_person_reason_and_notification(store: Store) -> None:
    open_or_update(store, DRIFT)
    steps = [
        (IncidentState.ACKNOWLEDGED, "Ada", "looking"),
        (IncidentState.MITIGATING, "Ada", "rolling back"),
        (IncidentState.MITIGATED, "Ada", "icons@1 is live again"),
        (IncidentState.RESOLVED, "Grace", "traffic is as usual"),
        (IncidentState.POSTMORTEM, "Grace", "written"),
    ]
    for state, who, why in steps:
        transition(store, 1, state, who, why)
    assert [(each.who, each.why) for each in timeline(store, 1)][1:] == [(who, why) for _, who, why in steps]
    assert queued(store) == ["trigger", "acknowledge", "update", "update", "resolve", "update"]
    done = incident(store, 1)
    assert done.when(IncidentState.OPEN) <= done.when(IncidentState.ACKNOWLEDGED) <= done.when(IncidentState.RESOLVED)
    again = open_or_update(store, DRIFT)
    assert (again.number, again.earlier) == (2, 1)  # what comes back after it was resolved is another incident


def test_of_two_people_who_acknowledge_at_once_one_is_told_who_was_first(store: Store) -> None:
    opened = open_or_update(store, DRIFT)
    start, results = threading.Barrier(8), []

    def acknowledge(who: str) -> None:
        start.wait()
        try:
            transition(store, 1, IncidentState.ACKNOWLEDGED, who, "mine", opened.generation)
            results.append(who)
        except Conflict as error:
            results.append(error)

    people = ["Ada", "Grace", "Katherine", "Dorothy", "Mary", "Annie", "Joan", "Edith"]
    threads = [threading.Thread(target=acknowledge, args=(who,)) for who in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [each for each in results if isinstance(each, str)]
    assert len(winners) == 1
    assert all(winners[0] in str(each) for each in results if isinstance(each, Conflict))
    assert len([each for each in timeline(store, 1) if each.kind == "incident_acknowledged"]) == 1


def test_a_mitigated_incident_opens_again_when_the_problem_returns(store: Store) -> None:
    opened = open_or_update(store, DRIFT)
    transition(store, 1, IncidentState.MITIGATED, "Ada", "rolled back", at=opened.opened + 1)
    late = open_or_update(store, replace(DRIFT, at=opened.opened + REOPEN_AFTER_S))  # was on its way
    assert late.state is IncidentState.MITIGATED
    back = open_or_update(store, replace(DRIFT, at=opened.opened + REOPEN_AFTER_S + 2))
    assert (back.number, back.state) == (1, IncidentState.OPEN)
    assert queued(store) == ["trigger", "update", "trigger"]


def test_a_worse_alert_raises_the_severity_once(store: Store) -> None:
    open_or_update(store, replace(DRIFT, severity=IncidentSeverity.WARNING))
    for _ in range(3):
        open_or_update(store, replace(DRIFT, severity=IncidentSeverity.CRITICAL))
    assert incident(store, 1).severity is IncidentSeverity.CRITICAL
    assert queued(store) == ["trigger", "trigger"]


def test_nothing_is_left_of_an_incident_whose_transaction_fails(store: Store) -> None:
    store.database.ensure_operations()

    def fail_after_opening() -> None:
        with store.database.writing() as connection:
            open_or_update(store, DRIFT, connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_opening()
    assert (incidents(store), queued(store), store.journal.head()[0]) == ([], [], 0)


def test_wrong_input_is_refused_in_one_sentence(store: Store) -> None:
    with pytest.raises(NotFound, match="no incident 7"):
        incident(store, 7)
    with pytest.raises(NotFound):
        transition(store, 10**30, IncidentState.RESOLVED, "Ada", "done")
    open_or_update(store, DRIFT)
    with pytest.raises(InputError, match="reason"):
        transition(store, 1, IncidentState.RESOLVED, "Ada", " \u200b")
    with pytest.raises(InputError, match="name"):
        transition(store, 1, IncidentState.RESOLVED, "…", "done")
    with pytest.raises(Conflict, match="cannot become postmortem"):
        transition(store, 1, IncidentState.POSTMORTEM, "Ada", "done")
    with pytest.raises(InputError):
        silence(store, Tags(), 1, "Ada", "all of them")
    with pytest.raises(InputError):
        silence(store, Tags(colour="red"), 1, "Ada", "why")


def test_the_clock_that_was_set_back_does_not_turn_the_timeline_around(store: Store) -> None:
    opened = open_or_update(store, replace(DRIFT, at=2_000_000_000.0))
    later = transition(store, 1, IncidentState.ACKNOWLEDGED, "Ada", "looking", at=1_000_000_000.0)
    assert later.updated == opened.opened


def test_remarks_and_silences_are_on_record(store: Store) -> None:
    open_or_update(store, DRIFT)
    noted = note(store, 1, "the campaign of the shop began today", "Ada", severity=IncidentSeverity.INFO)
    assert noted.severity is IncidentSeverity.INFO
    quiet = silence(store, Tags(kind="drift", name="icons"), 2, "Ada", "campaign")
    assert quiet.mutes(noted, quiet.since + 1)
    assert not quiet.mutes(replace(noted, name="photos"), quiet.since + 1)
    assert not quiet.mutes(noted, quiet.until)
    assert silences(store) == [quiet]
    end_silence(store, quiet.id, "Ada", "over")
    assert silences(store) == []
    assert [record.event.kind for record in store.journal.records("silence/")] == ["silenced", "silence_ended"]


def test_rows_of_the_outbox_wait_until_somebody_routes_them(store: Store) -> None:
    open_or_update(store, DRIFT)
    with store.database.reading() as connection:
        (row,) = outbox_rows(connection, OutboxState.WAITING)
    assert (row.channel, row.stream, row.attempts) == ("", "incident/1", 0)
