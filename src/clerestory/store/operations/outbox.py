"""The transactional outbox: a notification is queued in the transaction of what it reports, and delivered afterwards.

So nothing is reported that was rolled back, and nothing that happened stays unreported: a process that is killed after
its commit leaves the row, and any server delivers it (at least once; the receiver sees the same key again).

Rows of one stream (an incident) go to a channel in their order. A sender claims a row by compare-and-swap for
``LEASE_S`` seconds; the claim of a process that was killed runs out. Times come from clocks that may jump: a claim or a
retry that lies further ahead than it can is due at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select, update

from clerestory.core.digest import canonical, digest
from clerestory.store.database import Database
from clerestory.store.operations.schema import outbox as table

ALL_CHANNELS = ""
"""The channel of a row that is not routed yet: whoever delivers knows the channels, the writer need not."""
LEASE_S = 60.0
MAX_RETRY_S = 900.0  # the longest pause between two attempts
MAX_KEY = 128
MAX_ERROR = 500  # characters


class OutboxState(StrEnum):
    """Where a notification stands."""

    WAITING = "waiting"
    MUTED = "muted"  # by a silence; it is routed again when the silence ends
    DELIVERED = "delivered"
    ROUTED = "routed"  # replaced by one row for each channel
    DROPPED = "dropped"  # nobody needs it any more, such as after a silence that outlived its incident


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One notification for one channel.

    Attributes:
        position: its place in the queue.
        key: of idempotency: the receiver may see it twice.
        channel: of notification, by its name in the settings; empty for one that is not routed yet.
        stream: whose notifications keep their order, such as ``incident/3``; empty for one on its own.
        state: waiting, delivered, …
        created, due, delivered: seconds since the epoch; ``delivered`` is 0 until it is.
        attempts: how many have begun.
        error: of the last attempt, one sentence.
        payload: what it reports.
        claim: the token of the attempt that has it now; empty without one.
    """

    position: int
    key: str
    channel: str
    stream: str
    state: OutboxState
    created: float
    due: float
    delivered: float
    attempts: int
    error: str
    payload: Mapping[str, Any]
    claim: str


def enqueue(
    connection: Connection,
    key: str,
    channel: str,
    payload: Mapping[str, Any],
    stream: str = "",
    at: float | None = None,
) -> bool:
    """Queue a notification as part of a write transaction of the caller.

    Args:
        connection: of the transaction.
        key: of idempotency; a notification with a key that is queued already is not queued again.
        channel: its name in the settings; ``ALL_CHANNELS`` lets the settings decide.
        payload: plain JSON data.
        stream: notifications of one stream are delivered in the order in which they were queued.
        at: the time, in seconds since the epoch; now if None.

    Returns:
        Whether it was queued; False if its key was.
    """
    key = key if len(key) <= MAX_KEY else digest(key)
    if connection.execute(select(table.c.position).where(table.c.key == key)).first() is not None:
        return False
    now = time.time() if at is None else at
    connection.execute(
        table.insert().values(
            key=key,
            channel=channel,
            stream=stream,
            state=OutboxState.WAITING.value,
            created=now,
            due=now,
            attempts=0,
            delivered=0.0,
            error="",
            claim="",
            body=canonical(payload).decode(),
        )
    )
    return True


def claim(database: Database, channel: str, token: str, at: float | None = None) -> OutboxRow | None:
    """Take the next notification that is due on a channel; None if there is none.

    Args:
        database: holds the outbox.
        channel: its name.
        token: unguessable text of this attempt; ``finish`` and ``retry`` show it.
        at: the time; now if None.
    """
    now = time.time() if at is None else at
    with database.reading() as connection:
        candidates = connection.execute(_due(channel, now).limit(20)).all()
    for candidate in candidates:
        taken = and_(
            table.c.position == candidate.position,
            table.c.state == OutboxState.WAITING.value,
            table.c.claim == candidate.claim,
            table.c.attempts == candidate.attempts,
        )
        values = {"claim": token, "due": now + LEASE_S, "attempts": candidate.attempts + 1}
        with database.writing() as connection:
            if (
                _is_first(connection, candidate)
                and connection.execute(update(table).where(taken).values(values)).rowcount
            ):
                row = connection.execute(select(table).where(table.c.position == candidate.position)).one()
                return read_row(row)
    return None


def finish(
    connection: Connection, row: OutboxRow, state: OutboxState, error: str = "", at: float | None = None
) -> bool:
    """Record that nothing more has to be done for a notification.

    Returns:
        False if the claim had run out and another process has it.
    """
    now = time.time() if at is None else at
    delivered = now if state is OutboxState.DELIVERED else 0.0
    values = {"state": state.value, "delivered": delivered, "error": error[:MAX_ERROR], "claim": ""}
    return bool(connection.execute(update(table).where(_owned(row)).values(values)).rowcount)


def retry(connection: Connection, row: OutboxRow, pause_s: float, error: str, at: float | None = None) -> bool:
    """Give a claimed notification back, to be tried again after a pause.

    Returns:
        False if the claim had run out and another process has it.
    """
    due = (time.time() if at is None else at) + min(max(pause_s, 0.0), MAX_RETRY_S)
    values = {"due": due, "error": error[:MAX_ERROR], "claim": ""}
    return bool(connection.execute(update(table).where(_owned(row)).values(values)).rowcount)


def mute(connection: Connection, row: OutboxRow, why: str) -> bool:
    """Set a claimed notification aside while a silence lasts."""
    values = {"state": OutboxState.MUTED.value, "error": why[:MAX_ERROR], "claim": ""}
    return bool(connection.execute(update(table).where(_owned(row)).values(values)).rowcount)


def unmute(connection: Connection, positions: Sequence[int], state: OutboxState = OutboxState.WAITING) -> None:
    """Bring notifications that a silence had muted into another state: waiting, to be routed again, or dropped."""
    chosen = and_(table.c.position.in_(positions), table.c.state == OutboxState.MUTED.value)
    connection.execute(update(table).where(chosen).values(state=state.value, due=0.0, error=""))


def outbox_rows(
    connection: Connection, state: OutboxState | None = None, stream: str | None = None, limit: int | None = None
) -> list[OutboxRow]:
    """The notifications in one state or of one stream, oldest first."""
    query = select(table).order_by(table.c.position)
    if state is not None:
        query = query.where(table.c.state == state.value)
    if stream is not None:
        query = query.where(table.c.stream == stream)
    return [read_row(row) for row in connection.execute(query.limit(limit))]


def oldest_waiting(connection: Connection) -> tuple[int, float]:
    """How many notifications wait, and since when the oldest one does (seconds since the epoch; 0 if none waits)."""
    query = select(func.count(), func.min(table.c.created)).where(table.c.state == OutboxState.WAITING.value)
    count, since = connection.execute(query).one()
    return int(count), float(since or 0.0)


def read_row(row: Row[Any]) -> OutboxRow:
    """A row of the table as a value."""
    return OutboxRow(
        position=row.position,
        key=row.key,
        channel=row.channel,
        stream=row.stream,
        state=OutboxState(row.state),
        created=row.created,
        due=row.due,
        delivered=row.delivered,
        attempts=row.attempts,
        error=row.error,
        payload=json.loads(row.body),
        claim=row.claim,
    )


def _due(channel: str, now: float) -> Any:
    """The waiting rows of a channel whose time has come, the first one of each stream only, the oldest first."""
    earlier = table.alias("earlier")
    blocked = (
        select(earlier.c.position)
        .where(
            earlier.c.channel == table.c.channel,
            earlier.c.stream == table.c.stream,
            earlier.c.stream != "",
            earlier.c.state == OutboxState.WAITING.value,
            earlier.c.position < table.c.position,
        )
        .exists()
    )
    longest = now + max(MAX_RETRY_S, LEASE_S)  # further ahead than any claim or pause: the clock was set back
    is_due = or_(table.c.due <= now, table.c.due > longest)
    waiting = and_(table.c.channel == channel, table.c.state == OutboxState.WAITING.value)
    return select(table).where(waiting, is_due, ~blocked).order_by(table.c.position)


def _is_first(connection: Connection, row: Row[Any]) -> bool:
    """Whether no earlier row of the stream waits; checked again where the row is taken."""
    if not row.stream:
        return True
    earlier = and_(
        table.c.channel == row.channel,
        table.c.stream == row.stream,
        table.c.state == OutboxState.WAITING.value,
        table.c.position < row.position,
    )
    return connection.execute(select(table.c.position).where(earlier).limit(1)).first() is None


def _owned(row: OutboxRow) -> Any:
    return and_(
        table.c.position == row.position, table.c.claim == row.claim, table.c.state == OutboxState.WAITING.value
    )
