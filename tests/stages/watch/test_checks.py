"""What opens an incident by itself, from what servers write."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.released_store import edit_alias, released_store

from clerestory.stages.watch.checks import IncidentConfig, StoreChecks, check_store, lower_bound
from clerestory.store import Store, open_store
from clerestory.store.operations.feedback import Feedback, FeedbackKind, add_feedback, check_feedback
from clerestory.store.operations.incidents import AlertKind, IncidentSeverity, incidents
from clerestory.store.operations.outbox import enqueue
from clerestory.store.operations.prediction import Prediction, RequestKind, new_response_id
from clerestory.store.operations.predictions import add_predictions, row_of
from clerestory.store.operations.servers import ServerStatus, beat

CONFIG = IncidentConfig(min_free_bytes=0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "home") as opened:
        opened.database.ensure_operations()
        yield opened


def serve(store: Store, count: int, **values: object) -> list[Prediction]:
    now = time.time()
    base = Prediction("", "r", now - 1, RequestKind.EMBEDDINGS, "icons", 1, "d" * 64)
    made = [replace(base, response=new_response_id(), **values) for _ in range(count)]  # type: ignore[arg-type]
    with store.database.writing() as connection:
        add_predictions(connection, [row_of(each) for each in made])
    return made


def kinds(store: Store, config: IncidentConfig = CONFIG) -> set[AlertKind]:
    return {alert.kind for alert in check_store(store, config, time.time())}


def test_usual_traffic_opens_nothing(store: Store) -> None:
    assert kinds(store) == set()
    serve(store, 1_000)
    serve(store, 3, status=503)
    serve(store, 40, status=429)
    assert kinds(store) == set()


def test_requests_that_fail_wait_or_are_refused(store: Store) -> None:
    serve(store, 500)
    serve(store, 30, status=500)
    assert kinds(store) == {AlertKind.ERROR_RATE}
    serve(store, 100, latency_s=3.0)
    assert kinds(store) == {AlertKind.ERROR_RATE, AlertKind.LATENCY}
    serve(store, 400, status=429)
    assert kinds(store) == {AlertKind.ERROR_RATE, AlertKind.LATENCY, AlertKind.QUEUE}


def test_few_requests_are_not_judged_and_bad_embeddings_are_failures(store: Store) -> None:
    serve(store, 10, status=500)
    assert kinds(store) == set()
    serve(store, 60, finite=False)
    assert kinds(store) == {AlertKind.ERROR_RATE}


def test_answers_that_people_call_wrong(store: Store) -> None:
    made = serve(store, 60)
    values = ["down" if i < 40 else "up" for i in range(60)]
    said = [
        check_feedback(Feedback(each.response, FeedbackKind.THUMBS, value))
        for each, value in zip(made, values, strict=True)
    ]
    with store.database.writing() as connection:
        add_feedback(connection, said, time.time())
    assert kinds(store) == {AlertKind.FEEDBACK}


def test_a_server_that_is_gone_and_a_release_that_does_not_load(store: Store) -> None:
    now = time.time()
    status = ServerStatus("s1", "icons", "icons@2", "icons@1", "", now - 100, now - 60, problem="a file is damaged")
    with store.database.writing() as connection:
        beat(connection, status)
    assert kinds(store) == {AlertKind.HEARTBEAT, AlertKind.MODEL_LOAD}


def test_notifications_that_wait_and_a_disk_that_is_full(store: Store) -> None:
    with store.database.writing() as connection:
        enqueue(connection, "a", "pager", {}, at=time.time() - 3_600)
    assert kinds(store) == {AlertKind.OUTBOX}
    assert kinds(store, IncidentConfig(min_free_bytes=10**15)) == {AlertKind.OUTBOX, AlertKind.DISK}


def test_an_alias_that_was_changed_in_the_database(store: Store, tmp_path: Path) -> None:
    released_store(store, tmp_path / "models", 2)
    now = time.time()
    with store.database.writing() as connection:
        beat(connection, ServerStatus("s1", "icons", "icons@1", "icons@1", "", now, now))
    assert kinds(store) == set()
    edit_alias(store, 2)
    checks = StoreChecks(store, CONFIG)
    checks.once()
    checks.once()  # a problem that goes on is counted once a minute
    (opened,) = incidents(store)
    assert (opened.kind, opened.severity) == (AlertKind.INTEGRITY, IncidentSeverity.CRITICAL)
    assert opened.occurrences == 1


def test_the_lower_bound_is_that_of_wilson() -> None:
    assert lower_bound(0, 100) == 0.0
    z = 3.090232306167813  # of 0.999: the share is as many standard errors above the bound
    bound = lower_bound(10, 100)
    assert (0.1 - bound) / (bound * (1 - bound) / 100) ** 0.5 == pytest.approx(z)
