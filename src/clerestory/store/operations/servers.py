"""The servers of a store: what each of them has read, serves and loads, by its own last heartbeat.

A heartbeat that cannot be written is dropped: a full disk must not stop a server.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from clerestory.core.digest import canonical
from clerestory.store.operations.schema import servers as table

HEARTBEAT_SECONDS = 0.5
STALE_SECONDS = 5.0  # without a heartbeat, a server counts as gone
FORGET_SECONDS = 3_600.0  # until the row of a server that was killed is removed


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server.

    Attributes:
        id: of the process, new at each start.
        name: the model name that it follows.
        live: the release that it reads ``live`` as, such as ``icons@3``.
        served: the release that answers.
        loading: the release that is being loaded; empty if none is.
        started, seen: seconds since the epoch; ``seen`` is the time of the last heartbeat.
        host, process: where it runs.
        version: of Clerestory.
        resident: the releases in memory.
        rollout: the rollout that it takes part in; empty without one.
        problem: why it does not serve what is live, or cannot load a candidate; empty if nothing is wrong.
        dropped: heartbeats that could not be written.
        proved: the release that answers and that has answered the golden inputs as before; empty if it has not yet.
        generation: of the alias ``live`` for which that was shown.
    """

    id: str
    name: str
    live: str
    served: str
    loading: str
    started: float
    seen: float
    host: str = ""
    process: int = 0
    version: str = ""
    resident: tuple[str, ...] = ()
    rollout: str = ""
    problem: str = ""
    dropped: int = 0
    proved: str = ""
    generation: int = 0

    def is_running(self, at: float | None = None) -> bool:
        """Whether its last heartbeat is recent; one from the future counts, since clocks differ."""
        return (time.time() if at is None else at) - self.seen < STALE_SECONDS


def beat(connection: Connection, status: ServerStatus) -> None:
    """Write the heartbeat of a server."""
    columns = ("name", "live", "served", "loading", "started", "seen")
    values: dict[str, Any] = {column: getattr(status, column) for column in columns}
    more = ("host", "process", "version", "resident", "rollout", "problem", "dropped", "proved", "generation")
    values["body"] = canonical({name: getattr(status, name) for name in more}).decode()
    if not connection.execute(update(table).where(table.c.id == status.id).values(values)).rowcount:
        connection.execute(delete(table).where(table.c.seen < status.seen - FORGET_SECONDS))
        connection.execute(table.insert().values(id=status.id, **values))


def remove_server(connection: Connection, id: str) -> None:
    """Remove a server that ends."""
    connection.execute(delete(table).where(table.c.id == id))


def list_servers(connection: Connection, name: str = "") -> list[ServerStatus]:
    """The servers of a model name, or of all, in the order in which they were started."""
    query = select(table).order_by(table.c.started, table.c.id)
    return [_read(row) for row in connection.execute(query.where(table.c.name == name) if name else query)]


def _read(row: Row[Any]) -> ServerStatus:
    body = json.loads(row.body)
    body["resident"] = tuple(body["resident"])
    return ServerStatus(row.id, row.name, row.live, row.served, row.loading, row.started, row.seen, **body)
