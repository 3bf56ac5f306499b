from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.served_requests import DAY, NOW, prediction, verdict, write_feedback, write_predictions

from clerestory.core.errors import InputError
from clerestory.store import Store, open_store
from clerestory.store.operations import retention
from clerestory.store.operations.feedback import Feedback, FeedbackKind, list_feedback
from clerestory.store.operations.kept_images import KeptImages
from clerestory.store.operations.keyed_hash import LOG_KEY, KeyedHash
from clerestory.store.operations.predictions import PredictionFilter, count_predictions, list_predictions
from clerestory.store.operations.retention import RetentionSettings, erase, remove_expired


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(retention.time, "sleep", lambda seconds: None)
    with open_store(tmp_path / "home") as opened:
        yield opened


def test_the_key_is_made_once_and_only_its_owner_reads_it(store: Store) -> None:
    first, second = KeyedHash(store.files), KeyedHash(store.files)
    assert first.of_subject("ada") == second.of_subject("ada") != first.of_subject("grace")
    assert stat.S_IMODE((store.files / LOG_KEY).stat().st_mode) == 0o600
    assert first.of("input", "ab", "c") != first.of("input", "a", "bc") != first.of("subject", "a", "bc")
    assert first.of_caption("A  Violin ") == first.of_caption("a violin")
    assert first.of_subject("") == first.of_caption(" ") == ""
    assert KeyedHash(store.home / "elsewhere").of_subject("ada") != first.of_subject("ada")


def test_erasing_a_subject_leaves_no_trace_and_a_journal_that_verifies(store: Store) -> None:
    subject, secret = KeyedHash(store.files).of_subject("oskar"), "a caption with the name of a street"
    mine = [prediction(subject=subject) for _ in range(3)]
    others = [prediction() for _ in range(2)]
    write_predictions(store, [*mine, *others])
    write_feedback(store, [Feedback(mine[0].response, FeedbackKind.CAPTION, secret), verdict(others[0].response)])
    KeptImages(store.files).keep(mine[1].response, b"an image")
    done = erase(store, subject="oskar", who="grace", why="ticket 7")
    assert (done.requests, done.feedback, done.images, done.in_datasets) == (3, 1, 1, 0)
    with store.database.reading() as connection:
        left = {item.response for _, item in list_predictions(connection, PredictionFilter())}
        assert left == {item.response for item in others}
        assert len(list_feedback(connection)) == 1
    assert store.journal.verify() == []
    (record,) = store.journal.records(kinds=[retention.ERASED])
    assert record.seq == done.record
    assert dict(record.event.details)["requests"] == "3"
    assert "oskar" not in str(record.event)
    traces = (secret.encode(), subject.encode(), mine[0].response.encode())
    for path in (each for each in store.home.rglob("*") if each.is_file()):
        assert not any(trace in path.read_bytes() for trace in traces), path
    assert erase(store, subject="oskar", why="again").record == 0


def test_one_request_is_erased_by_either_of_its_ids(store: Store) -> None:
    items = [prediction(request="of-a-client"), prediction()]
    write_predictions(store, items)
    assert erase(store, request="of-a-client", why="a mistake").requests == 1
    assert erase(store, request=items[1].response, why="a mistake").requests == 1
    for wrong in ({}, {"subject": "a", "request": "b"}):
        with pytest.raises(InputError):
            erase(store, **wrong, why="x")
    with pytest.raises(InputError, match="reason"):
        erase(store, subject="a", why=" ")


def test_what_is_older_than_its_retention_goes_in_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 4)
    old = [prediction(at=NOW - 40 * DAY) for _ in range(10)]
    write_predictions(store, [*old, prediction()])
    write_feedback(store, [verdict(old[0].response)], now=NOW - 39 * DAY)
    images = KeptImages(store.files)
    images.keep(old[0].response, b"an image")
    settings = RetentionSettings(requests_days=30, feedback_days=60)
    batches = []
    while count := remove_expired(store.database, images, settings, NOW):
        batches.append(count)
    assert sum(batches) == 9
    assert max(batches) == 4
    assert images.has(old[0].response)
    while remove_expired(store.database, images, settings, NOW + 30 * DAY):
        pass
    with store.database.reading() as connection:
        assert count_predictions(connection, PredictionFilter()) == 1
        assert not list_feedback(connection)
    assert not images.has(old[0].response)


def test_kept_images_are_found_by_the_response_and_go_with_their_age(store: Store) -> None:
    images = KeptImages(store.files)
    images.keep("resp_12345678", b"one")
    assert images.read("resp_12345678") == b"one"
    assert images.read("../store.db") is None
    images.keep("../escape-me", b"no")
    assert len(list(images.folder.iterdir())) == 1
    os.utime(images.folder / "resp_12345678", (NOW, NOW))
    assert images.remove_before(NOW + 1) == 1
