"""The drift monitors of the servers, as ``clerestory watch drift`` shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from sqlalchemy import select

from clerestory.store.operations.schema import monitors

if TYPE_CHECKING:
    from clerestory.cli.output import Common
    from clerestory.store import Store


def show_monitors(store: Store, name: str, common: Common) -> int:
    """Print the state of every monitor; 1 if one of them has an alarm."""
    store.database.ensure_operations()
    query = select(monitors.c.name, monitors.c.monitor, monitors.c.slice, monitors.c.server, monitors.c.updated)
    with store.database.reading() as connection:
        rows = [row._asdict() for row in connection.execute(query) if not name or row.name == name]
    table = Table("model", "monitor", "slice", "server", box=None)
    for row in rows:
        table.add_row(row["name"], row["monitor"], row["slice"], row["server"])
    common.out.result(rows, *([table] if rows else ["no server has watched for drift yet"]))
    return 0
