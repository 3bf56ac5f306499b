"""The action of a policy, with real releases: the previous one is live again, once, and the incident says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.released_store import released_store

from clerestory.apps.incident_actions import rollback_action
from clerestory.core.codec import Tags
from clerestory.stages.release import promote
from clerestory.stages.watch.incident_policy import POLICY_FILE, policy_in
from clerestory.stages.watch.notify.delivery import Deliverer
from clerestory.store import Store
from clerestory.store.operations.incidents import (
    SYSTEM,
    Alert,
    AlertKind,
    IncidentState,
    incident,
    open_or_update,
    timeline,
)

POLICY = """
[[on]]
kind = "error_rate"
severity = "critical"
runbook = "errors"
action = "rollback"
"""


@pytest.fixture
def served(store: Store, tmp_path: Path) -> Store:
    """``icons@2`` is live, ``icons@1`` was; the policy rolls back if requests fail."""
    released_store(store, tmp_path / "models", 2)
    promote("icons@2", store, "ada", "a better one", new_space=True)
    (store.home / POLICY_FILE).write_text(POLICY, encoding="utf-8")
    return store


def failing(ref: str) -> Alert:
    return Alert(AlertKind.ERROR_RATE, "requests fail", "icons", ref, details=Tags(release=ref))


def deliver(store: Store) -> None:
    Deliverer(store, (), policy_in(store.home)[0], rollback_action(store)).once()


def live(store: Store) -> int:
    alias = store.alias("icons", "live")
    assert alias is not None
    return alias.number


def test_the_policy_makes_the_previous_release_live_and_the_incident_is_mitigated(served: Store) -> None:
    open_or_update(served, failing("icons@2"))
    deliver(served)
    assert live(served) == 1
    assert incident(served, 1).state is IncidentState.MITIGATED
    steps = timeline(served, 1)
    assert [each.who for each in steps[-2:]] == [SYSTEM, SYSTEM]
    assert steps[-1].details.items() >= {("from", "icons@2"), ("to", "icons@1")}
    moved = [each.event for each in served.journal.records("icons@") if each.event.kind == "rolled_back"]
    assert [each.who for each in moved] == [SYSTEM]
    assert "incident 1" in moved[0].why
    assert not served.verify_registry("icons")


def test_it_acts_once_however_often_the_alert_comes_and_whoever_delivers(served: Store) -> None:
    for _ in range(3):
        open_or_update(served, failing("icons@2"))
        deliver(served)
    assert live(served) == 1
    assert sum(each.event.kind == "rolled_back" for each in served.journal.records("icons@")) == 1


def test_an_incident_of_a_release_that_is_not_live_moves_nothing(served: Store) -> None:
    open_or_update(served, failing("icons@1"))
    deliver(served)
    assert live(served) == 2
    assert incident(served, 1).state is IncidentState.OPEN
    assert "does not concern the live release" in timeline(served, 1)[-1].why


def test_a_rollback_that_fails_leaves_the_incident_to_people(store: Store, tmp_path: Path) -> None:
    released_store(store, tmp_path / "models", 1)  # there is nothing to roll back to
    (store.home / POLICY_FILE).write_text(POLICY, encoding="utf-8")
    open_or_update(store, failing("icons@1"))
    deliver(store)
    assert live(store) == 1
    assert incident(store, 1).state is IncidentState.MITIGATING
    assert "the rollback failed" in timeline(store, 1)[-1].why
