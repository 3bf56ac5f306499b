from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.served_requests import prediction, verdict

from clerestory.core.errors import Conflict, InputError, NotFound, NotWritable, Unavailable
from clerestory.store import Store, open_store
from clerestory.store.operations import recorder as module
from clerestory.store.operations.feedback import Feedback, FeedbackKind, list_feedback
from clerestory.store.operations.predictions import PredictionFilter, count_predictions, find_prediction
from clerestory.store.operations.recorder import Recorder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def recorder(store: Store) -> Iterator[Recorder]:
    made = Recorder(store.database)
    yield made
    made.close()


def test_a_prediction_is_written_and_found_by_its_ids_and_by_a_prefix(store: Store, recorder: Recorder) -> None:
    one, other = prediction(request="request-of-a-client"), prediction()
    recorder.observe(one)
    recorder.observe(other)
    assert recorder.flush()
    with store.database.reading() as connection:
        assert find_prediction(connection, one.response) == one
        assert find_prediction(connection, "request-of-a-client") == one
        assert find_prediction(connection, other.response[:12]) == other
        with pytest.raises(NotFound, match="at least 6"):
            find_prediction(connection, "resp_ab")
        with pytest.raises(InputError, match="several") as caught:
            find_prediction(connection, "request-")
        assert caught.value.closest
    assert recorder.counts.written == 2


def test_feedback_on_a_response_in_the_queue_is_written_after_it(store: Store, recorder: Recorder) -> None:
    item = prediction(subject="s" * 64)
    recorder.observe(item)
    (recorded,) = recorder.submit([verdict(item.response, "wrong")]).result(10)
    assert recorded.error is None
    assert recorded.is_new
    assert recorded.feedback.subject == "s" * 64
    with store.database.reading() as connection:
        assert [each.value for each in list_feedback(connection)] == ["wrong"]


def test_feedback_is_idempotent_by_its_key(store: Store, recorder: Recorder) -> None:
    item = prediction()
    recorder.observe(item)
    first = verdict(item.response, key="k")
    (written,) = recorder.submit([first]).result(10)
    (again,) = recorder.submit([first]).result(10)
    assert (written.is_new, again.is_new) == (True, False)
    assert again.feedback.received == written.feedback.received
    other, unknown, good = recorder.submit(
        [verdict(item.response, "wrong", key="k"), verdict("resp_none"), verdict(item.response, "wrong", key="k2")]
    ).result(10)
    assert isinstance(other.error, Conflict)
    assert isinstance(unknown.error, NotFound)
    assert good.error is None
    twice = recorder.submit([verdict(item.response, key="same"), verdict(item.response, key="same")]).result(10)
    assert [each.is_new for each in twice] == [True, False]
    with store.database.reading() as connection:
        assert len(list_feedback(connection)) == 3


@pytest.mark.parametrize(
    "item",
    [
        Feedback("r", FeedbackKind.THUMBS, "sideways"),
        Feedback("r", FeedbackKind.TEXT, "  "),
        Feedback("r", FeedbackKind.TEXT, "x" * 2_001),
        Feedback("r", FeedbackKind.CAPTION, "a\x00b"),
        Feedback("r", FeedbackKind.CAPTION, "\ud800"),
        Feedback("r", FeedbackKind.VERDICT, "right", source=""),
        Feedback("r", FeedbackKind.VERDICT, "right", at=-1.0),
        Feedback("r", FeedbackKind.VERDICT, "right", at=float("nan")),
        Feedback("r", FeedbackKind.VERDICT, "right", item="i" * 201),
    ],
)
def test_values_out_of_bounds_are_refused_before_they_are_queued(recorder: Recorder, item: Feedback) -> None:
    with pytest.raises(InputError):
        recorder.submit([item])


def test_what_does_not_fit_is_dropped_and_counted(store: Store) -> None:
    made = Recorder(store.database, max_waiting=5)
    with store.database.writing():  # nobody else can write meanwhile
        for _ in range(20):
            made.observe(prediction())
    made.close()
    counts = made.counts
    assert counts.written + counts.dropped == 20
    assert counts.dropped >= 10
    with store.database.reading() as connection:
        assert count_predictions(connection, PredictionFilter()) == counts.written


def test_a_full_disk_refuses_feedback_and_keeps_the_log_in_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Recorder(store.database)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    item = prediction()
    full = threading.Event()
    full.set()
    write = module.add_predictions

    def fails(*arguments: object) -> None:
        if full.is_set():
            raise NotWritable("the disk is full")
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "add_predictions", fails)
    made.observe(item)
    with pytest.raises(NotWritable):
        made.submit([verdict(item.response)]).result(10)
    assert made.counts.problem
    full.clear()
    assert made.flush()
    assert made.counts.written == 1
    assert not made.counts.problem
    assert made.submit([verdict(item.response)]).result(10)[0].error is None
    made.close()
    with pytest.raises(Unavailable):
        made.submit([verdict(item.response)])


def test_many_who_wait_share_a_commit(store: Store, recorder: Recorder) -> None:
    item = prediction()
    recorder.observe(item)
    assert recorder.flush()
    before = recorder.counts.commits
    with store.database.writing():  # they all wait for this one
        results = [recorder.submit([verdict(item.response, key=str(i))]) for i in range(500)]
    assert all(each.result(30)[0].error is None for each in results)
    assert recorder.counts.commits - before <= 3
