"""Incidents whose condition has cleared: noted once, back when it is back, resolved only if the policy says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.stages.watch.test_checks import serve
from tests.support.released_store import edit_alias, released_store

from clerestory.stages.watch.checks import IncidentConfig, StoreChecks
from clerestory.stages.watch.incident_policy import IncidentPolicy, IncidentRule
from clerestory.stages.watch.recovery import CLEARED_SINCE, cleared_since
from clerestory.store import Store, open_store
from clerestory.store.operations.incidents import (
    Alert,
    AlertKind,
    Incident,
    IncidentState,
    incidents,
    open_or_update,
)
from clerestory.store.operations.servers import ServerStatus, beat

# Nothing is delivered here, and the clock runs ahead.
CONFIG = IncidentConfig(min_free_bytes=0, outbox_seconds=86_400)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "home") as opened:
        opened.database.ensure_operations()
        yield opened


class Clock:
    """The time, as far ahead as a test says."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def only(store: Store) -> Incident:
    (found,) = incidents(store)
    return found


def notes(store: Store) -> int:
    return sum(CLEARED_SINCE in each.details for each in only(store).changes)


def test_a_condition_that_cleared_is_noted_once_and_a_person_resolves(store: Store, tmp_path: Path) -> None:
    released_store(store, tmp_path / "models", 2)
    with store.database.writing() as connection:
        beat(connection, ServerStatus("s1", "icons", "icons@1", "icons@1", "", time.time(), time.time() + 1e6))
    clock = Clock()
    checks = StoreChecks(store, CONFIG, clock)
    edit_alias(store, 2)
    checks.once()
    edit_alias(store, 1)
    checks.once()
    assert notes(store) == 0  # another server may notice it within a minute
    for clock.ahead in (130, 140, 500):
        checks.once()
        assert (notes(store), only(store).state) == (1, IncidentState.OPEN)
    assert 0 < cleared_since(only(store)) - only(store).last_seen < 60
    assert not [each for each in store.journal.verify() if each.state == "fail"]


def test_the_policy_resolves_after_a_while_and_a_condition_that_is_back_counts_anew(store: Store) -> None:
    serve(store, 500)
    alert = Alert(AlertKind.OUTBOX, "notifications wait", subject="outbox")
    open_or_update(store, alert)
    clock = Clock()
    policy = IncidentPolicy(on=(IncidentRule(kind="outbox", resolve_after=600),))
    checks = StoreChecks(store, CONFIG, clock, policy=policy)
    for clock.ahead in (0, 130, 500):
        checks.once()
    assert cleared_since(only(store))
    open_or_update(store, Alert(AlertKind.OUTBOX, "they wait again", subject="outbox", at=clock()))
    assert not cleared_since(only(store))
    for clock.ahead in (700, 1_100):
        checks.once()
    assert (notes(store), only(store).state) == (2, IncidentState.OPEN)
    clock.ahead = 1_400
    checks.once()
    resolved = only(store)
    assert (resolved.state, resolved.changes[-1].who) == (IncidentState.RESOLVED, "clerestory")
    assert "no longer holds" in resolved.changes[-1].why


def test_without_requests_no_rate_has_cleared_and_what_no_check_returns_is_left_alone(store: Store) -> None:
    open_or_update(store, Alert(AlertKind.ERROR_RATE, "requests fail", "icons", "icons@1"))
    open_or_update(store, Alert(AlertKind.HEARTBEAT, "a server is lost", "icons", "s1"))
    open_or_update(store, Alert(AlertKind.DRIFT, "other images", "icons", "icons@1"))
    clock = Clock()
    checks = StoreChecks(store, CONFIG, clock)
    for clock.ahead in (0, 130, 260):
        checks.once()
    assert not any(cleared_since(each) for each in incidents(store))
    clock.ahead = 0
    serve(store, 500, at=time.time() + 390)
    with store.database.writing() as connection:
        beat(connection, ServerStatus("s1", "icons", "icons@1", "icons@1", "", time.time(), time.time() + 390))
    clock.ahead = 390
    checks.once()
    cleared = {each.kind for each in incidents(store) if cleared_since(each)}
    assert cleared == {AlertKind.ERROR_RATE, AlertKind.HEARTBEAT}
