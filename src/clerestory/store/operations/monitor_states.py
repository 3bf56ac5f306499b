"""What drift monitors have seen, in the table ``monitors``: one row for each monitor, slice and server.

Three rows of a model name are not detectors: the chosen reference, the last request of a person to start again, and for
each server a summary with its alarms.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, select

from clerestory.core.digest import canonical
from clerestory.store.database import Database
from clerestory.store.operations.schema import monitors as table

REFERENCE, RESET, SUMMARY = "#reference", "#reset", "#summary"  # no column has such a name


@dataclass(frozen=True, slots=True)
class MonitorRecord:
    """One row.

    Attributes:
        name: of the model.
        monitor, slice, server: which detector.
        updated: seconds since the epoch.
        body: facts for people and pages.
        state: of the detector.
    """

    name: str
    monitor: str
    slice: str
    server: str
    updated: float
    body: Mapping[str, Any]
    state: bytes = b""


def read_monitors(database: Database, name: str = "", server: str | None = None) -> list[MonitorRecord]:
    """The rows of a model name, or all of them; of one server, or of all."""
    database.ensure_operations()
    query = select(table).order_by(table.c.name, table.c.server, table.c.slice, table.c.monitor)
    if name:
        query = query.where(table.c.name == name)
    if server is not None:
        query = query.where(table.c.server == server)
    with database.reading() as connection:
        return [
            MonitorRecord(row.name, row.monitor, row.slice, row.server, row.updated, json.loads(row.body), row.state)
            for row in connection.execute(query)
        ]


def find_monitor(database: Database, name: str, monitor: str, server: str = "") -> MonitorRecord | None:
    """One of the rows that are not detectors; None if there is none."""
    rows = read_monitors(database, name, server)
    return next((row for row in rows if row.monitor == monitor), None)


def write_monitor(connection: Connection, record: MonitorRecord) -> None:
    """Insert a row or replace it, as part of a write transaction of the caller."""
    key = and_(
        table.c.name == record.name,
        table.c.monitor == record.monitor,
        table.c.slice == record.slice,
        table.c.server == record.server,
    )
    connection.execute(delete(table).where(key))
    connection.execute(
        table.insert().values(
            name=record.name,
            monitor=record.monitor,
            slice=record.slice,
            server=record.server,
            updated=record.updated,
            body=canonical(dict(record.body)).decode(),
            state=record.state,
        )
    )


def remove_monitors(connection: Connection, name: str, server: str) -> None:
    """Remove the detectors and the summary of one server."""
    connection.execute(delete(table).where(and_(table.c.name == name, table.c.server == server)))
