"""A rollout on SQLite and on PostgreSQL: two servers share its evidence, and one transaction ends it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.rollouts import router_of, send, two_releases

from clerestory.core.errors import Conflict
from clerestory.stages.release.promotion import change_canary, start_canary
from clerestory.store import Store
from clerestory.store.operations import incidents
from clerestory.store.operations.prediction import Arm
from clerestory.store.operations.rollouts import (
    PAUSED,
    Guardrail,
    Rollout,
    RolloutPlan,
    RolloutState,
    change_rollout,
    list_rollouts,
    read_evidence,
)

PLAN = RolloutPlan(steps=(0.2, 0.5), step_every_s=0.0, min_requests=20)


def newest(store: Store) -> Rollout:
    with store.database.reading() as connection:
        return list_rollouts(connection, "icons", 1)[0]


@pytest.fixture
def started(store: Store, tmp_path: Path) -> Store:
    two_releases(store, tmp_path)
    start_canary("icons@2", store, PLAN, "ada", "try it")
    return store


def test_two_servers_share_the_evidence_and_one_takes_the_candidate_back(started: Store) -> None:
    first, second = router_of(started, "a"), router_of(started, "b")
    for seed in range(40):
        for offset, router in ((0, first), (1_000, second)):
            send(router, 25, lambda arm: 0.5 if arm is Arm.CANDIDATE else 0.01, seed=seed + offset)
            router.step()
        if newest(started).state is RolloutState.ROLLED_BACK:
            break
    assert newest(started).state is RolloutState.ROLLED_BACK
    assert (first.problem, second.problem) == ("", "")
    first.refresh()
    second.refresh()
    assert (first.rollout, second.rollout) == (None, None)
    (opened,) = incidents.incidents(started)
    assert (opened.kind, opened.state) == (incidents.AlertKind.ROLLOUT, incidents.IncidentState.MITIGATED)
    kinds = [each.event.kind for each in started.journal.records("icons@")]
    assert kinds.count("canary_rolled_back") == 1
    assert started.journal.verify() + started.verify_registry("icons") == []


def test_a_subject_counts_on_one_server_only(started: Store) -> None:
    first, second = router_of(started, "a"), router_of(started, "b")
    for router in (first, second):
        send(router, 50, lambda _: 0.0, subject=lambda _: "the same person")
        router.step()
    with started.database.reading() as connection:
        counts = read_evidence(connection, newest(started).id)[Guardrail.ERRORS].counts
    assert counts.stable + counts.candidate == 1


def test_of_two_changes_of_one_generation_one_wins(started: Store) -> None:
    seen = newest(started)
    change_canary("icons", started, "pause", "ada", "wait")
    with pytest.raises(Conflict, match="changed by somebody else"), started.database.writing() as connection:
        change_rollout(connection, started.journal, seen, PAUSED, "eve", "me too", state=RolloutState.PAUSED)
    assert newest(started).generation == seen.generation + 1
