"""The outbox: queued once, taken by one, in the order of its stream, and never lost."""

from __future__ import annotations

import time

from clerestory.store import Store
from clerestory.store.operations.outbox import (
    LEASE_S,
    MAX_RETRY_S,
    OutboxState,
    claim,
    enqueue,
    finish,
    mute,
    oldest_waiting,
    outbox_rows,
    retry,
    unmute,
)


def put(store: Store, *keys: str, channel: str = "pager", stream: str = "") -> list[bool]:
    store.database.ensure_operations()
    with store.database.writing() as connection:
        return [enqueue(connection, key, channel, {"key": key}, stream) for key in keys]


def test_a_key_is_queued_once(store: Store) -> None:
    assert put(store, "a", "a", "b" * 500, "b" * 500) == [True, False, True, False]


def test_one_process_has_a_row_until_its_claim_runs_out(store: Store) -> None:
    put(store, "a")
    now = time.time()
    first = claim(store.database, "pager", "one", now)
    assert first is not None
    assert claim(store.database, "pager", "two", now + LEASE_S - 1) is None
    second = claim(store.database, "pager", "two", now + LEASE_S + 1)  # the first process was killed
    assert second is not None
    assert second.attempts == 2
    with store.database.writing() as connection:
        assert not finish(connection, first, OutboxState.DELIVERED)
        assert not retry(connection, first, 1, "late")
        assert finish(connection, second, OutboxState.DELIVERED)
    assert claim(store.database, "pager", "three", now + 10 * LEASE_S) is None


def test_a_stream_keeps_its_order_and_blocks_no_other(store: Store) -> None:
    put(store, "a1", "a2", stream="incident/1")
    put(store, "b1", stream="incident/2")
    now = time.time()
    first = claim(store.database, "pager", "one", now)
    assert first is not None
    assert first.key == "a1"
    second = claim(store.database, "pager", "two", now)
    assert second is not None
    assert second.key == "b1"  # a2 waits for a1
    with store.database.writing() as connection:
        assert retry(connection, first, 60, "answered 500", now)
    assert claim(store.database, "pager", "three", now + 1) is None
    again = claim(store.database, "pager", "four", now + 61)
    assert again is not None
    assert (again.key, again.error) == ("a1", "answered 500")
    with store.database.writing() as connection:
        assert finish(connection, again, OutboxState.DELIVERED)
    last = claim(store.database, "pager", "five", now + 62)
    assert last is not None
    assert last.key == "a2"


def test_channels_do_not_block_each_other(store: Store) -> None:
    put(store, "a", stream="incident/1", channel="pager")
    put(store, "b", stream="incident/1", channel="mail")
    assert claim(store.database, "pager", "one") is not None
    assert claim(store.database, "mail", "two") is not None


def test_a_clock_that_was_set_back_delays_nothing(store: Store) -> None:
    now = time.time()
    store.database.ensure_operations()
    with store.database.writing() as connection:
        enqueue(connection, "a", "pager", {}, at=now + 86_400)
    row = claim(store.database, "pager", "one", now)  # queued while the clock was a day ahead
    assert row is not None
    with store.database.writing() as connection:
        retry(connection, row, 10 * MAX_RETRY_S, "answered 500", now)
    assert claim(store.database, "pager", "two", now + MAX_RETRY_S + 1) is not None


def test_muted_rows_come_back(store: Store) -> None:
    put(store, "a")
    row = claim(store.database, "pager", "one")
    assert row is not None
    with store.database.writing() as connection:
        assert mute(connection, row, "silenced")
        assert oldest_waiting(connection) == (0, 0.0)
        unmute(connection, [row.position])
        assert [each.state for each in outbox_rows(connection)] == [OutboxState.WAITING]
    assert claim(store.database, "pager", "two") is not None
