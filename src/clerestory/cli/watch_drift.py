"""``clerestory watch drift``: what the drift monitors of the servers have seen."""

from __future__ import annotations

from rich.table import Table

from clerestory.cli.output import PLAIN, Common
from clerestory.store import open_store


def drift_(*, name: str = "", common: Common = PLAIN) -> int:
    """Show what the drift monitors of the servers have seen: their windows, their alarms.

    Args:
        name: Only the monitors of this model name.
    """
    from sqlalchemy import select  # here, because it is heavy

    from clerestory.store.operations.schema import monitors

    store = open_store(common.home)
    query = select(monitors.c.name, monitors.c.monitor, monitors.c.slice, monitors.c.server, monitors.c.updated)
    with store.database.reading() as connection:
        rows = [row._asdict() for row in connection.execute(query) if not name or row.name == name]
    table = Table("model", "monitor", "slice", "server", box=None)
    for row in rows:
        table.add_row(row["name"], row["monitor"], row["slice"], row["server"])
    common.out.result(rows, *([table] if rows else ["no server has watched for drift yet"]))
    return 0
