"""The request log: one row for each response, written in groups, listed by filters, removed after its retention.

These functions take part in a transaction of the caller.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Select, delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from clerestory.core.codec import Tags, encode
from clerestory.core.errors import InputError, NotFound
from clerestory.store.operations.prediction import Arm, Prediction, RequestKind
from clerestory.store.operations.schema import feedback, predictions

MIN_PREFIX = 6
MAX_ID = 64
MAX_TEXT = 200  # of a label, a model name or a fact
IN_ONE_QUERY = 500


@dataclass(frozen=True, slots=True)
class PredictionFilter:
    """Which requests to list.

    Attributes:
        name, number: the model name and the number of the release.
        kind, arm: of the request.
        subject: the keyed hash of a user id.
        since, until: the time of admission, in seconds since the epoch; ``until`` is excluded.
        failed: only those with a status of 400 or more.
        with_feedback: only those with feedback.
    """

    name: str = ""
    number: int | None = None
    kind: str = ""
    arm: str = ""
    subject: str = ""
    since: float | None = None
    until: float | None = None
    failed: bool = False
    with_feedback: bool = False


def row_of(item: Prediction) -> dict[str, Any]:
    """The row of a prediction, with every text in the bounds of its column."""
    body = {field.name: encode(getattr(item, field.name)) for field in fields(item)}
    body["facts"] = dict(list(item.facts.items())[:40])
    text = json.dumps(body, sort_keys=True, separators=(",", ":")).replace("\\u0000", "")
    return {
        "response": item.response[:MAX_ID],
        "request": _plain(item.request)[:MAX_ID],
        "name": _plain(item.name)[:MAX_TEXT],
        "number": item.number,
        "rollout": item.rollout[:MAX_ID],
        "arm": str(item.arm),
        "kind": str(item.kind),
        "at": item.at,
        "subject": item.subject[:MAX_ID],
        "body": text,
    }


def prediction_of(body: str) -> Prediction:
    """The prediction of a row."""
    values = json.loads(body)
    values |= {"kind": RequestKind(values["kind"]), "arm": Arm(values["arm"]), "facts": Tags(values["facts"])}
    return Prediction(**values)


def add_predictions(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows; one whose response is there already is left as it is."""
    if rows:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        connection.execute(dialect.insert(predictions).on_conflict_do_nothing(), list(rows))


def find_prediction(connection: Connection, id: str) -> Prediction:
    """The prediction with this id of a response or of a request, or the only one whose id begins with it.

    Raises:
        NotFound: there is none; it may have been removed after the retention, or erased.
        InputError: several begin with it; or the id is too short to identify one.
    """
    for column in (predictions.c.response, predictions.c.request):
        query = select(predictions.c.body).where(column == id).order_by(predictions.c.position).limit(1)
        if (body := connection.execute(query).scalar()) is not None:
            return prediction_of(body)
    prefix = id.removesuffix("…")
    if len(prefix.removeprefix("resp_")) < MIN_PREFIX:
        raise NotFound(f"no request has the id {id!r}", f"use at least {MIN_PREFIX} characters of the id")
    # Not LIKE: ids of requests come from clients, and SQLite's ignores case.
    begins = [
        column.between(prefix, prefix + "\U0010ffff") for column in (predictions.c.response, predictions.c.request)
    ]
    query = select(predictions.c.body, predictions.c.response).where(or_(*begins)).limit(4)
    rows = connection.execute(query).all()
    if len(rows) == 1:
        return prediction_of(rows[0].body)
    if rows:
        message = f"{id!r} is the beginning of several ids"
        raise InputError(message, "use more characters", [row.response for row in rows[:3]])
    raise NotFound(
        f"no request has the id {id!r}",
        "it may have been removed after its retention, erased, or sent to another store: clerestory watch requests",
    )


def predictions_of_request(connection: Connection, request: str) -> list[Prediction]:
    """All responses of one request."""
    query = select(predictions.c.body).where(predictions.c.request == request).order_by(predictions.c.position)
    return [prediction_of(body) for body in connection.execute(query).scalars()]


def list_predictions(
    connection: Connection, wanted: PredictionFilter, limit: int | None = 100, before: int | None = None
) -> list[tuple[int, Prediction]]:
    """The requests that meet the conditions with their positions, the newest first.

    Args:
        connection: a transaction.
        wanted: the conditions.
        limit: the largest number of them; all if None.
        before: only those at earlier positions, to go on with the next page.
    """
    query = _filtered(select(predictions.c.position, predictions.c.body), wanted)
    if before is not None:
        query = query.where(predictions.c.position < before)
    query = query.order_by(predictions.c.position.desc())
    rows = connection.execute(query if wanted.failed else query.limit(limit))
    found = ((row.position, prediction_of(row.body)) for row in rows)
    return list(islice((each for each in found if not wanted.failed or each[1].status >= 400), limit))


def count_predictions(connection: Connection, wanted: PredictionFilter) -> int:
    """The number of requests that meet the conditions; those of a status are not counted apart."""
    return int(connection.execute(_filtered(select(func.count()).select_from(predictions), wanted)).scalar_one())


def responses_known(connection: Connection, responses: Sequence[str]) -> dict[str, str]:
    """The subject (a keyed hash, or empty) of each of these responses that are in the log."""
    known: dict[str, str] = {}
    for some in in_slices(sorted(set(responses))):
        query = select(predictions.c.response, predictions.c.subject).where(predictions.c.response.in_(some))
        known |= {row.response: row.subject for row in connection.execute(query)}
    return known


def remove_predictions_before(connection: Connection, moment: float, limit: int) -> int:
    """Remove the oldest rows from before a moment, at most ``limit``; those with feedback stay as long as that does."""
    has_feedback = select(feedback.c.position).where(feedback.c.response == predictions.c.response).exists()
    old = (
        select(predictions.c.position)
        .where(predictions.c.at < moment, ~has_feedback)
        .order_by(predictions.c.at)
        .limit(limit)
    )
    positions = list(connection.execute(old).scalars())
    for some in in_slices(positions):
        connection.execute(delete(predictions).where(predictions.c.position.in_(some)))
    return len(positions)


def in_slices(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The values in slices that fit into one query."""
    for start in range(0, len(values), IN_ONE_QUERY):
        yield values[start : start + IN_ONE_QUERY]


def _filtered(query: Select[Any], wanted: PredictionFilter) -> Select[Any]:
    columns = {"name": wanted.name, "kind": wanted.kind, "arm": wanted.arm, "subject": wanted.subject}
    for column, value in columns.items():
        if value:
            query = query.where(predictions.c[column] == value)
    if wanted.number is not None:
        query = query.where(predictions.c.number == wanted.number)
    if wanted.since is not None:
        query = query.where(predictions.c.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(predictions.c.at < wanted.until)
    if wanted.with_feedback:
        query = query.where(select(feedback.c.position).where(feedback.c.response == predictions.c.response).exists())
    return query


def _plain(text: str) -> str:
    """The text as every database accepts it."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "")
