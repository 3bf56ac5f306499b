"""Feedback on responses: one row for each, recognised by its key when it is sent again.

The functions with a connection take part in a transaction of the caller.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, select

from clerestory.core.digest import digest
from clerestory.core.errors import ClerestoryError, Conflict, InputError, NotFound
from clerestory.store.operations.predictions import in_slices, responses_known
from clerestory.store.operations.schema import feedback as table

MAX_VALUE = 2_000  # characters
MAX_KEY = 128
MAX_ITEM = 200
MAX_SOURCE = 20
UP, DOWN, RIGHT, WRONG = "up", "down", "right", "wrong"


class FeedbackKind(StrEnum):
    """What somebody says about an answer."""

    THUMBS = "thumbs"  # up or down
    VERDICT = "verdict"  # right or wrong
    LABEL = "label"  # the true label
    CAPTION = "caption"  # a caption that is right; equal to the suggested one if that is
    TEXT = "text"  # free text


class CorrectionState(StrEnum):
    """Where a corrected caption or label is on its way into a dataset."""

    NONE = ""  # nobody has decided
    ACCEPTED = "accepted"
    DECLINED = "declined"


VALUES = {FeedbackKind.THUMBS: (UP, DOWN), FeedbackKind.VERDICT: (RIGHT, WRONG)}
CORRECTING = (FeedbackKind.CAPTION, FeedbackKind.LABEL)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody says about one response.

    Attributes:
        response: the id of the response.
        kind, value: what it says; an empty caption or label withdraws an earlier one of the same source.
        source: where it comes from, such as ``page``, ``api`` or ``labels``.
        item: which part of the answer: the id of an image that was found, or the position of an input; empty for all.
        key: of idempotency; made here if it is empty.
        at: when it was said, in seconds since the epoch; 0 for the time at which it is received.
        suggested: the text that a corrected caption or label replaces, where it may be kept.
        subject: keyed hash of the user of the response; filled in from the request log.
        received: when it was written.
        position: its place in the log; 0 before it is written.
        decision: whether a correction was accepted into a dataset.
        decided: who decided, why and when, and the version it went into.
    """

    response: str
    kind: FeedbackKind
    value: str
    source: str = "api"
    item: str = ""
    key: str = ""
    at: float = 0.0
    suggested: str = ""
    subject: str = ""
    received: float = 0.0
    position: int = 0
    decision: CorrectionState = CorrectionState.NONE
    decided: tuple[tuple[str, str], ...] = ()

    @property
    def content(self) -> str:
        """The digest of the content: the same key with another content is a conflict."""
        return digest(
            [self.response, str(self.kind), self.value, self.source, self.item, float(self.at), self.suggested]
        )

    @property
    def is_negative(self) -> bool:
        """Whether it says that the answer is not good."""
        return self.value == {FeedbackKind.THUMBS: DOWN, FeedbackKind.VERDICT: WRONG}.get(self.kind)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The outcome of one feedback.

    Attributes:
        feedback: as it was written, now or before.
        is_new: False if it was there already, under the same key and with the same content.
        error: why it was not written; None if it is.
    """

    feedback: Feedback
    is_new: bool = True
    error: ClerestoryError | None = None


def check_feedback(item: Feedback) -> Feedback:
    """The feedback with a key, if every value is in its bounds.

    Raises:
        InputError: a value is not; names it.
    """
    allowed = VALUES.get(item.kind)
    if allowed and item.value not in allowed:
        raise InputError(f"the value of {item.kind} is {item.value[:40]!r}", f"use {' or '.join(allowed)}")
    if item.kind is FeedbackKind.TEXT and not item.value.strip():
        raise InputError("the text is empty", "write what you think of the answer")
    bounds = {"value": MAX_VALUE, "source": MAX_SOURCE, "item": MAX_ITEM, "key": MAX_KEY, "suggested": MAX_VALUE}
    for name, limit in bounds.items():
        text = getattr(item, name)
        if len(text) > limit:
            raise InputError(f"{name} has {len(text):,} characters", f"use at most {limit:,}")
        if not text.isprintable() and (not text.isascii() or "\x00" in text or name != "value"):
            _check_text(name, text)
    if not item.source:
        raise InputError("the source is empty", "name it, such as api")
    if not 0 <= item.at < 1e11:
        raise InputError(f"the time {item.at} is not one in seconds since 1970", "send seconds, such as 1764000000")
    return item if item.key else replace(item, key=f"made:{secrets.token_hex(16)}")


def _check_text(name: str, text: str) -> None:
    if "\x00" in text:
        raise InputError(f"{name} contains a zero character", "remove it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name} is not valid Unicode", "send text as UTF-8") from error


def add_feedback(connection: Connection, items: Sequence[Feedback], now: float) -> list[Recorded]:
    """Write feedback after ``check_feedback``; the result of each, in order.

    A response that the request log does not have is a ``NotFound`` of that item, a known key with another content a
    ``Conflict``; the others are written.
    """
    known = responses_known(connection, [item.response for item in items])
    by_key: dict[str, tuple[str, Feedback]] = {}
    for some in in_slices(sorted({item.key for item in items})):
        rows = connection.execute(select(table).where(table.c.key.in_(some)))
        by_key |= {row.key: (json.loads(row.body)["content"], feedback_of(row)) for row in rows}
    results: list[Recorded] = []
    new: list[dict[str, Any]] = []
    for item in items:
        content = item.content
        if earlier := by_key.get(item.key):
            if earlier[0] == content:
                results.append(Recorded(earlier[1], is_new=False))
            else:
                message = f"the key {item.key[:60]!r} was used for other feedback"
                results.append(Recorded(item, error=Conflict(message, "use another key for other feedback")))
        elif item.response not in known:
            message = f"no response has the id {item.response[:60]!r}"
            fix = "use the id of a response of this server that is in its request log"
            results.append(Recorded(item, error=NotFound(message, fix)))
        else:
            written = replace(item, subject=known[item.response], received=now, at=item.at or now)
            by_key[item.key] = (content, written)
            new.append(_row(written, content))
            results.append(Recorded(written))
    if new:
        connection.execute(table.insert(), new)
    return results


def read_feedback(connection: Connection, responses: Sequence[str]) -> list[Feedback]:
    """The feedback on these responses, the oldest first."""
    rows: list[Row[Any]] = []
    for some in in_slices(sorted(set(responses))):
        rows += connection.execute(select(table).where(table.c.response.in_(some))).all()
    return sorted(map(feedback_of, rows), key=lambda item: item.position)


def list_feedback(connection: Connection, since: float = 0.0, limit: int | None = None) -> list[Feedback]:
    """The feedback that was received since a moment, the newest first."""
    query = select(table).where(table.c.received >= since).order_by(table.c.position.desc()).limit(limit)
    return [feedback_of(row) for row in connection.execute(query)]


def list_corrections(connection: Connection, state: CorrectionState | None = None) -> list[Feedback]:
    """The captions and labels that people corrected, the oldest first; those in one state, or all if None."""
    query = select(table).where(table.c.kind.in_([str(kind) for kind in CORRECTING])).order_by(table.c.position)
    if state is not None:
        query = query.where(table.c.decision == str(state))
    return latest(feedback_of(row) for row in connection.execute(query))


def latest(items: Any) -> list[Feedback]:
    """The newest of each source about the same part of an answer, in order; those that were withdrawn are left out."""
    newest: dict[tuple[str, str, str, str], Feedback] = {}
    for item in items:
        key = (item.response, item.item, str(item.kind), item.source)
        newest.pop(key, None)
        newest[key] = item
    return [item for item in newest.values() if item.value.strip()]


def decide_correction(connection: Connection, item: Feedback, state: CorrectionState, decided: dict[str, str]) -> None:
    """Record what a person decided about a correction."""
    body = connection.execute(select(table.c.body).where(table.c.position == item.position)).scalar_one()
    values = {**json.loads(body), "decided": decided}
    statement = table.update().where(table.c.position == item.position)
    connection.execute(statement.values(decision=str(state), body=_json(values)))


def remove_feedback_before(connection: Connection, moment: float, limit: int) -> list[str]:
    """Remove the oldest feedback from before a moment, at most ``limit`` rows; the responses that it was about."""
    old = select(table.c.position, table.c.response).where(table.c.received < moment)
    rows = connection.execute(old.order_by(table.c.received).limit(limit)).all()
    for some in in_slices([row.position for row in rows]):
        connection.execute(delete(table).where(table.c.position.in_(some)))
    return [row.response for row in rows]


def feedback_of(row: Row[Any]) -> Feedback:
    """The feedback of a row."""
    body = json.loads(row.body)
    return Feedback(
        row.response,
        FeedbackKind(row.kind),
        row.value,
        row.source,
        row.item,
        row.key,
        row.at,
        body.get("suggested", ""),
        row.subject,
        row.received,
        row.position,
        CorrectionState(row.decision),
        tuple(sorted(body.get("decided", {}).items())),
    )


def _row(item: Feedback, content: str) -> dict[str, Any]:
    return {
        "key": item.key,
        "response": item.response,
        "kind": str(item.kind),
        "source": item.source,
        "subject": item.subject,
        "item": item.item,
        "at": item.at,
        "received": item.received,
        "value": item.value,
        "decision": str(item.decision),
        "body": _json({"content": content, "suggested": item.suggested}),
    }


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"))
